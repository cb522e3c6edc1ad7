$(eval $(call program,walstream,$(wildcard src/walstream/*.c)))
