# left out as long as there is no walstream.c
$(eval $(call program,walstream,$(if $(wildcard src/walstream/walstream.c),$(wildcard src/walstream/*.c))))
