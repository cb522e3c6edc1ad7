$(eval $(call program,walrestore,$(wildcard src/walrestore/main.c)))
