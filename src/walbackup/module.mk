$(eval $(call program,walbackup,src/walbackup/main.c))
