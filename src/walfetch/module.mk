# walfetch: the fast path is static and small; what needs TLS and libcurl is a helper that it runs.
WALFETCH_SHARED := src/walfetch/options.c src/walfetch/session.c
$(eval $(call static_program,walfetch,src/walfetch/walfetch.c $(WALFETCH_SHARED) src/pg/wal.c))
$(eval $(call libexec_program,walfetch-direct,$(addprefix src/walfetch/,direct.c fetch.c prefetch.c) $(WALFETCH_SHARED)))
