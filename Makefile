# walstream: build, test, install. `make help` lists the targets.

PREFIX      ?= /usr/local
BINDIR      ?= $(PREFIX)/bin
LIBEXECDIR  ?= $(PREFIX)/libexec/walstream
MANDIR      ?= $(PREFIX)/share/man
DOCDIR      ?= $(PREFIX)/share/doc/walstream
DESTDIR     ?=
BUILD       ?= build
V           ?= 0
Q           := $(if $(filter 1,$(V)),,@)
say          = $(if $(filter 1,$(V)),@:,@echo "  $(1)")
INSTALL     ?= install

VERSION     := 0.1.0

CFLAGS      ?= -O2 -g
LDFLAGS     ?=

# SANITIZE=address,undefined or thread; such builds have a directory of their own
SANITIZE    ?=
ifneq ($(SANITIZE),)
SAN_FLAGS   := -fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all
STATIC      :=
else
SAN_FLAGS   :=
# fortification needs optimisation, which coverage builds are without
HARDEN      := $(if $(filter -O0,$(CFLAGS)),,-D_FORTIFY_SOURCE=2) -fstack-protector-strong -fstack-clash-protection
STATIC      := -static
endif

WARN := -Wall -Wextra -Werror -Wshadow -Wconversion -Wcast-qual -Wformat=2 -Wstrict-prototypes \
        -Wmissing-prototypes -Wvla -Wundef
PKGS := libpq libcurl openssl liblz4 libzstd libarchive jansson expat
OUR_CPPFLAGS := -D_GNU_SOURCE -DWALSTREAM_VERSION='"$(VERSION)"' \
                -DWALSTREAM_LIBEXECDIR='"$(LIBEXECDIR)"' -Isrc -Iinclude \
                $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
OUR_CFLAGS := -std=c11 -pthread -fPIE $(WARN) $(HARDEN) $(SAN_FLAGS)
OUR_LDFLAGS := -pthread $(SAN_FLAGS)
# libcurl is loaded at run time (src/store/curl_lazy.h)
LIBS := $(shell pkg-config --libs $(filter-out libcurl,$(PKGS)) 2>/dev/null) -linih -lxxhash
# what the static fast paths may use: src/common and these
FAST_LIBS := -linih

# everything but the main files of the larger programs, so that unit tests can link it
LIB_DIRS := common stream pg crypto store repo walstream walbackup walrestore
LIB_SRC := $(filter-out src/walstream/main.c src/walbackup/main.c src/walrestore/main.c,$(foreach d,$(LIB_DIRS),$(wildcard src/$(d)/*.c)))
LIB_OBJ := $(LIB_SRC:src/%.c=$(BUILD)/obj/%.o)
LIB := $(BUILD)/libwalstream.a
FAST_OBJ := $(filter $(BUILD)/obj/common/%,$(LIB_OBJ))
FAST_LIB := $(BUILD)/libwalstream-fast.a

.PHONY: all help check check-run check-unit check-integration check-fault demo bench lint asan ubsan tsan fuzz \
        format man install uninstall clean deps deps-test deps-bench deps-lint coverage tests
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:

# ---- programs: src/TOOL/module.mk calls one of these with the name and the sources; a program without
# sources is left out. All are built into $(BUILD). ----
PROGRAMS :=
LIBEXEC_PROGRAMS :=
PROGRAM_OBJ :=
# a fragment may add TAP programs that `make check` runs
CHECK_TAP :=

# $(call link_rule,NAME,SOURCES,ARCHIVE,LIBRARIES AND FLAGS)
define link_rule
PROGRAM_OBJ += $(2:src/%.c=$(BUILD)/obj/%.o)
$(BUILD)/$(1): $(2:src/%.c=$(BUILD)/obj/%.o) $(3)
	$$(call say,CCLD    $$@)
	$(Q)$$(CC) $$(OUR_CFLAGS) $$(CFLAGS) -o $$@ $(2:src/%.c=$(BUILD)/obj/%.o) $$(OUR_LDFLAGS) $$(LDFLAGS) $(3) $(4)
endef

# in BINDIR, with all libraries
define program
$(if $(strip $(2)),PROGRAMS += $(BUILD)/$(1)
$(call link_rule,$(1),$(2),$(LIB),$(LIBS)))
endef

# in LIBEXECDIR: called by our programs only
define libexec_program
$(if $(strip $(2)),LIBEXEC_PROGRAMS += $(BUILD)/$(1)
$(call link_rule,$(1),$(2),$(LIB),$(LIBS)))
endef

# in BINDIR, statically linked, with src/common only: starts as fast as a program can
define static_program
$(if $(strip $(2)),PROGRAMS += $(BUILD)/$(1)
$(call link_rule,$(1),$(2),$(FAST_LIB),$(STATIC) $(FAST_LIBS)))
endef

include $(wildcard src/*/module.mk)
-include tests/fuzz/fuzz.mk
-include tests/fault/fault.mk
-include tests/bench/bench.mk

## all           the programs, in build/ (the default)
all: $(PROGRAMS) $(LIBEXEC_PROGRAMS)

help:
	@sed -n 's/^## //p' $(firstword $(MAKEFILE_LIST)) $(wildcard tests/fuzz/fuzz.mk)

# Says what is missing instead of failing at the first header.
$(BUILD)/.libraries:
	@pkg-config --exists --print-errors $(PKGS) || { echo 'run "make deps" as root first' >&2; exit 1; }
	@mkdir -p $(@D)
	@touch $@

$(BUILD)/obj/%.o: src/%.c | $(BUILD)/.libraries
	@mkdir -p $(@D)
	$(call say,CC      $<)
	$(Q)$(CC) $(OUR_CPPFLAGS) $(CPPFLAGS) $(OUR_CFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(LIB): $(LIB_OBJ)
$(FAST_LIB): $(FAST_OBJ)
$(LIB) $(FAST_LIB) $(BUILD)/tests/libconformance.a:
	@rm -f $@
	$(call say,AR      $@)
	$(Q)$(AR) rcs $@ $^

# ---- unit tests: tests/unit/test_X.c is one program that prints TAP; what several of them run is in
# tests/conformance ----
CONFORMANCE_SRC := $(wildcard tests/conformance/*.c)
CONFORMANCE_OBJ := $(CONFORMANCE_SRC:%.c=$(BUILD)/%.o)
CONFORMANCE_LIB := $(BUILD)/tests/libconformance.a

$(BUILD)/tests/conformance/%.o: tests/conformance/%.c | $(BUILD)/.libraries
	@mkdir -p $(@D)
	$(call say,CC      $<)
	$(Q)$(CC) $(OUR_CPPFLAGS) $(CPPFLAGS) -Itests -Itests/unit $(OUR_CFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(CONFORMANCE_LIB): $(CONFORMANCE_OBJ)

UNIT_SRC := $(wildcard tests/unit/test_*.c)
UNIT_BIN := $(UNIT_SRC:tests/unit/%.c=$(BUILD)/tests/unit/%)

$(BUILD)/tests/unit/%: tests/unit/%.c $(CONFORMANCE_LIB) $(LIB) tests/unit/tap.h
	@mkdir -p $(@D)
	$(call say,CCLD    $@)
	$(Q)$(CC) $(OUR_CPPFLAGS) $(CPPFLAGS) -Itests -Itests/unit $(OUR_CFLAGS) $(CFLAGS) -MMD -MP -o $@ $< \
	    $(OUR_LDFLAGS) $(LDFLAGS) $(CONFORMANCE_LIB) $(LIB) $(LIBS)

tests: $(UNIT_BIN) $(CHECK_TAP)

# Parallel tests: the machine's processors, as each spends much of its time waiting.
PROVE_FLAGS ?= -j2 --timer
INTEGRATION_TESTS := $(sort $(wildcard tests/integration/*.t))
FAULT_TESTS := $(sort $(wildcard tests/fault/*.t))
RUN_TESTS := WALSTREAM_BIN=$(BUILD) tests/run.sh $(PROVE_FLAGS)

## deps          install what the build needs (as root, Debian 12); deps-test: what the tests need too
deps:
	$(Q)tests/setup/install.sh build
deps-test:
	$(Q)tests/setup/install.sh test
deps-bench:
	$(Q)tests/setup/install.sh bench
deps-lint:
	$(Q)tests/setup/install.sh lint

## check         all tests; as root it first installs what they need
# In a second make, as this one has looked for the libraries before they were installed.
check: deps-test
	@$(MAKE) --no-print-directory check-run

check-run: all tests
	$(Q)$(RUN_TESTS) $(UNIT_BIN) $(CHECK_TAP) $(INTEGRATION_TESTS) $(FAULT_TESTS)

## check-unit    unit tests only: no server, no network
check-unit: $(UNIT_BIN)
	$(Q)prove --exec '' $(UNIT_BIN)

## check-integration  tests with real servers; T=FILE runs one
check-integration: all
	$(Q)$(RUN_TESTS) $(or $(T),$(INTEGRATION_TESTS))

## check-fault   tests that break things
check-fault: all
	$(Q)$(RUN_TESTS) $(or $(T),$(FAULT_TESTS))

## asan          unit, corpus and a shorter integration run under ASan and UBSan
asan:
	$(Q)ASAN_OPTIONS=detect_leaks=1:abort_on_error=0:exitcode=99 UBSAN_OPTIONS=print_stacktrace=1 \
	    WALTEST_QUICK=1 WALTEST_VERSIONS="$${WALTEST_VERSIONS-15 18}" \
	    $(MAKE) --no-print-directory SANITIZE=address,undefined BUILD=build-asan CFLAGS='-O1 -g' check-run

## ubsan         the same under UBSan alone
ubsan:
	$(Q)UBSAN_OPTIONS=print_stacktrace=1 WALTEST_QUICK=1 WALTEST_VERSIONS="$${WALTEST_VERSIONS-15 18}" \
	    $(MAKE) --no-print-directory SANITIZE=undefined BUILD=build-ubsan CFLAGS='-O1 -g' check-run

## tsan          the same under ThreadSanitizer
tsan:
	$(Q)TSAN_OPTIONS=exitcode=98:second_deadlock_stack=1 WALTEST_QUICK=1 \
	    WALTEST_VERSIONS="$${WALTEST_VERSIONS-15 18}" \
	    $(MAKE) --no-print-directory SANITIZE=thread BUILD=build-tsan CFLAGS='-O1 -g' check-run

## coverage      line coverage of the unit tests, by file, in build-cov/coverage.txt
coverage:
	$(Q)$(MAKE) --no-print-directory BUILD=build-cov CFLAGS='-O0 -g --coverage' LDFLAGS=--coverage check-unit
	$(Q)cd build-cov && find obj -name '*.gcda' | sort | xargs gcov -n 2>/dev/null | \
	    awk '/^File .src/ {f=$$2; gsub(/\x27/, "", f)} /^Lines executed/ && f != "" \
	        {sub(/executed:/, "", $$2); split($$0, a, ":"); print a[2] "\t" f; f=""}' | sort -n | tee coverage.txt

## lint          clang-tidy, cppcheck, gcc -fanalyzer, scan-build, banned functions, format; gcc and clang
ALL_C := $(sort $(wildcard src/*/*.c) $(UNIT_SRC) $(CONFORMANCE_SRC) $(wildcard tests/fuzz/*.c) \
              $(wildcard tests/fault/*.c) $(wildcard tests/bench/*.c))
ALL_H := $(sort $(wildcard src/*/*.h tests/unit/*.h tests/conformance/*.h tests/fuzz/*.h))
# __FILE__: a text that needs no quotes on its way through shells
LINT_FLAGS := -std=c11 -D_GNU_SOURCE -DWALSTREAM_VERSION=__FILE__ -DWALSTREAM_LIBEXECDIR=__FILE__ \
              -Isrc -Iinclude -Itests -Itests/unit $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
lint:
	$(Q)tests/lint.sh "$(MAKE)" "$(LINT_FLAGS)" $(ALL_C) $(ALL_H)

## format        clang-format all sources in place
format:
	clang-format -i $(ALL_C) $(ALL_H)

# ---- documentation and installation ----
MAN_PAGES := $(wildcard doc/man/*.[1-8])
-include doc/module.mk

## man           make and check the manual pages
man: $(MAN_PAGES)
	$(Q)$(if $(MAN_PAGES),mandoc -T lint -W warning $(MAN_PAGES),:)

INSTALL_DOCS := $(wildcard doc/*.md doc/*.example contrib/systemd/*.service contrib/systemd/*.timer)

man_dir = $(MANDIR)/man$(subst .,,$(suffix $(1)))

## install       programs, manual pages, documentation; PREFIX, DESTDIR
install: all $(MAN_PAGES)
	$(INSTALL) -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBEXECDIR) $(DESTDIR)$(DOCDIR)
	$(if $(PROGRAMS),$(INSTALL) -m 755 $(PROGRAMS) $(DESTDIR)$(BINDIR))
	$(if $(LIBEXEC_PROGRAMS),$(INSTALL) -m 755 $(LIBEXEC_PROGRAMS) $(DESTDIR)$(LIBEXECDIR))
	$(foreach m,$(MAN_PAGES),$(INSTALL) -D -m 644 $(m) $(DESTDIR)$(call man_dir,$(m))/$(notdir $(m)) &&) :
	$(INSTALL) -m 644 README.md FORMAT.md LICENSE $(INSTALL_DOCS) $(DESTDIR)$(DOCDIR)

## uninstall     remove what install put there
uninstall:
	$(foreach p,$(PROGRAMS),rm -f $(DESTDIR)$(BINDIR)/$(notdir $(p)) &&) :
	$(foreach p,$(LIBEXEC_PROGRAMS),rm -f $(DESTDIR)$(LIBEXECDIR)/$(notdir $(p)) &&) :
	$(foreach m,$(MAN_PAGES),rm -f $(DESTDIR)$(call man_dir,$(m))/$(notdir $(m)) &&) :
	rm -f $(addprefix $(DESTDIR)$(DOCDIR)/,README.md FORMAT.md LICENSE $(notdir $(INSTALL_DOCS)))
	-rmdir $(DESTDIR)$(LIBEXECDIR) $(DESTDIR)$(DOCDIR) 2>/dev/null

## demo          loses a database host and brings the database back; as root it installs what it needs
demo: deps-test
	@$(MAKE) --no-print-directory all
	$(Q)WALSTREAM_BIN=$(BUILD) tests/demo.sh

## bench         measure, beside the peers; as root it installs them; ROWS=NAME,... measures some
bench: deps-bench
	@$(MAKE) --no-print-directory all bench-programs
	$(Q)WALSTREAM_BIN=$(BUILD) tests/bench/run.sh

clean:
	rm -rf build build-*

-include $(LIB_OBJ:.o=.d) $(PROGRAM_OBJ:.o=.d) $(wildcard $(BUILD)/tests/*/*.d)
