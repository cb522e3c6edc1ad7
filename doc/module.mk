# walstream.conf(5) is made from the table of options in src/common/config.c

MAN_PAGES += $(BUILD)/man/walstream.conf.5

$(BUILD)/man/gen_conf_man: doc/gen_conf_man.c $(FAST_LIB)
	@mkdir -p $(@D)
	$(call say,CCLD    $@)
	$(Q)$(CC) $(OUR_CPPFLAGS) $(CPPFLAGS) $(OUR_CFLAGS) $(CFLAGS) -o $@ $< $(OUR_LDFLAGS) $(LDFLAGS) \
	    $(FAST_LIB) $(FAST_LIBS)

$(BUILD)/man/walstream.conf.5: $(BUILD)/man/gen_conf_man
	$(call say,MAN     $@)
	$(Q)$(BUILD)/man/gen_conf_man >$@
