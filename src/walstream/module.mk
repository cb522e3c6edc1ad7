$(eval $(call program,walstream,$(wildcard src/walstream/main.c)))
