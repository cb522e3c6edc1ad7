# walpush: the fast path is static and small; what needs TLS and libcurl is a helper that it executes.
$(eval $(call static_program,walpush,src/walpush/walpush.c src/walpush/options.c))
$(eval $(call libexec_program,walpush-direct,src/walpush/direct.c src/walpush/options.c))
