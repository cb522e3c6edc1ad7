# SPDX-License-Identifier: PostgreSQL
#
# What the fault tests need: a library that makes calls fail, and programs to fail in.

FAILNTH := $(BUILD)/tests/failnth.so
FAULT_SRC := $(filter-out tests/fault/failnth.c,$(wildcard tests/fault/*.c))
FAULT_BIN := $(FAULT_SRC:tests/fault/%.c=$(BUILD)/tests/fault/%)

# never with a sanitizer, which wants to be loaded first
$(FAILNTH): tests/fault/failnth.c
	@mkdir -p $(@D)
	$(call say,CCLD    $@)
	$(Q)$(CC) -D_GNU_SOURCE $(CPPFLAGS) -std=c11 -fPIC -fno-builtin $(WARN) -O2 -g -shared -o $@ $< -ldl

$(BUILD)/tests/fault/%: tests/fault/%.c $(BUILD)/tests/libconformance.a $(LIB)
	@mkdir -p $(@D)
	$(call say,CCLD    $@)
	$(Q)$(CC) $(OUR_CPPFLAGS) $(CPPFLAGS) -Itests -Itests/unit $(OUR_CFLAGS) $(CFLAGS) -MMD -MP -o $@ $< \
	    $(OUR_LDFLAGS) $(LDFLAGS) $(CONFORMANCE_LIB) $(LIB) $(LIBS)

tests check-integration check-fault: $(FAILNTH) $(FAULT_BIN)
