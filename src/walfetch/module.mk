# walfetch: the fast path is static and small; what needs TLS and libcurl is a helper that it runs.
WALFETCH_SHARED := src/walfetch/options.c src/walfetch/session.c
$(eval $(call static_program,walfetch,src/walfetch/walfetch.c $(WALFETCH_SHARED) src/pg/wal.c))
$(eval $(call libexec_program,walfetch-direct,$(addprefix src/walfetch/,direct.c fetch.c prefetch.c spool.c window.c) $(WALFETCH_SHARED)))

# fills a repository for the tests, so that they do not depend on the writers
$(BUILD)/tests/walfill: tests/lib/walfill.c $(LIB)
	@mkdir -p $(@D)
	$(call say,CCLD    $@)
	$(Q)$(CC) $(OUR_CPPFLAGS) $(CPPFLAGS) $(OUR_CFLAGS) $(CFLAGS) -o $@ $< $(OUR_LDFLAGS) $(LDFLAGS) $(LIB) $(LIBS)
tests check-integration check-fault: $(BUILD)/tests/walfill
