$(eval $(call program,walctl,$(wildcard src/walctl/*.c)))
