# walpush: the fast path is static and small; what needs TLS and libcurl is a helper that it executes.
$(eval $(call static_program,walpush,$(wildcard src/walpush/walpush.c)))
$(eval $(call libexec_program,walpush-direct,$(wildcard src/walpush/direct*.c)))
