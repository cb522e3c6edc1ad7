# Fuzz targets: tests/fuzz/fuzz_X.c defines LLVMFuzzerTestOneInput, its inputs are the files in
# tests/fuzz/corpus/X/. An input that found something stays there.

FUZZ_SECONDS ?= 20
FUZZ_CC      ?= clang
FUZZ_NAMES   := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_REPLAY  := $(FUZZ_NAMES:%=$(BUILD)/tests/fuzz/fuzz_%)
FUZZ_ENGINE  := $(FUZZ_NAMES:%=$(BUILD)/fuzz/fuzz_%)

.PHONY: check-fuzz-corpus fuzz fuzz-run $(FUZZ_NAMES:%=fuzz-run-%)

$(BUILD)/tests/fuzz/replay_main.o: tests/fuzz/replay_main.c tests/unit/tap.h
	@mkdir -p $(@D)
	$(Q)$(CC) $(OUR_CPPFLAGS) $(CPPFLAGS) -Itests/unit $(OUR_CFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/tests/fuzz/fuzz_%: tests/fuzz/fuzz_%.c $(BUILD)/tests/fuzz/replay_main.o $(LIB)
	$(if $(filter 1,$(V)),,@echo "  CCLD    $@")
	$(Q)$(CC) $(OUR_CPPFLAGS) $(CPPFLAGS) $(OUR_CFLAGS) $(CFLAGS) -MMD -MP -o $@ $< \
	    $(BUILD)/tests/fuzz/replay_main.o $(OUR_LDFLAGS) $(LDFLAGS) $(LIB) $(LIBS)

## check-fuzz-corpus  run the fuzz targets over the stored inputs, without an engine
check-fuzz-corpus: $(FUZZ_REPLAY)
	$(Q)prove --exec '' $(FUZZ_REPLAY)

## fuzz          search for new inputs with libFuzzer, FUZZ_SECONDS (20) for each target
fuzz:
	$(Q)$(MAKE) --no-print-directory BUILD=build-fuzz CC=$(FUZZ_CC) HARDEN= STATIC= \
	    SAN_FLAGS='-fsanitize=fuzzer-no-link,address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=all' \
	    fuzz-run

fuzz-run: $(FUZZ_NAMES:%=fuzz-run-%)

$(BUILD)/fuzz/fuzz_%: tests/fuzz/fuzz_%.c $(LIB)
	@mkdir -p $(@D)
	$(if $(filter 1,$(V)),,@echo "  CCLD    $@")
	$(Q)$(CC) $(OUR_CPPFLAGS) $(CPPFLAGS) $(OUR_CFLAGS) $(CFLAGS) -MMD -MP -o $@ $< \
	    -fsanitize=fuzzer $(OUR_LDFLAGS) $(LDFLAGS) $(LIB) $(LIBS)

# what is new goes to a directory of its own; a finding's input is named in the output
$(FUZZ_NAMES:%=fuzz-run-%): fuzz-run-%: $(BUILD)/fuzz/fuzz_%
	@mkdir -p $(BUILD)/fuzz/new/$*
	@echo "  FUZZ    $* for $(FUZZ_SECONDS) s"
	$(Q)$(BUILD)/fuzz/fuzz_$* -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 \
	    -verbosity=0 -print_final_stats=1 -artifact_prefix=$(BUILD)/fuzz/found-$*- \
	    $(BUILD)/fuzz/new/$* tests/fuzz/corpus/$*

CHECK_TAP += $(FUZZ_REPLAY)

-include $(wildcard $(BUILD)/tests/fuzz/*.d $(BUILD)/fuzz/*.d)
