# walfetch: the fast path is static and small; what needs TLS and libcurl is a helper that it executes.
$(eval $(call static_program,walfetch,$(wildcard src/walfetch/walfetch.c)))
$(eval $(call libexec_program,walfetch-direct,$(wildcard src/walfetch/direct*.c)))
