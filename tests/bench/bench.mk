# SPDX-License-Identifier: PostgreSQL
#
# The programs that measure.

BENCH_SRC := $(wildcard tests/bench/*.c)
BENCH_BIN := $(BENCH_SRC:tests/bench/%.c=$(BUILD)/tests/bench/%)

# The one that works by our own library.
$(BUILD)/tests/bench/simulate_repository: tests/bench/simulate_repository.c $(LIB)
	@mkdir -p $(@D)
	$(call say,CCLD    $@)
	$(Q)$(CC) $(OUR_CPPFLAGS) $(CPPFLAGS) $(OUR_CFLAGS) $(CFLAGS) -o $@ $< $(OUR_LDFLAGS) $(LDFLAGS) $(LIB) $(LIBS)

$(BUILD)/tests/bench/%: tests/bench/%.c | $(BUILD)/.libraries
	@mkdir -p $(@D)
	$(call say,CCLD    $@)
	$(Q)$(CC) $(OUR_CPPFLAGS) $(CPPFLAGS) $(OUR_CFLAGS) $(CFLAGS) -o $@ $< $(OUR_LDFLAGS) $(LDFLAGS) \
	    $(shell pkg-config --libs libpq 2>/dev/null)

.PHONY: bench-programs
bench-programs: $(BENCH_BIN)
