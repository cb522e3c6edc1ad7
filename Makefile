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
HARDEN      := -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fstack-clash-protection
STATIC      := -static
endif

WARN := -Wall -Wextra -Werror -Wshadow -Wconversion -Wcast-qual -Wformat=2 -Wstrict-prototypes \
        -Wmissing-prototypes -Wvla -Wundef
PKGS := libpq libcurl openssl liblz4 libzstd jansson expat
OUR_CPPFLAGS := -D_GNU_SOURCE -DWALSTREAM_VERSION='"$(VERSION)"' -Isrc -Iinclude \
                $(shell pkg-config --cflags $(PKGS))
OUR_CFLAGS := -std=c11 -pthread -fPIE $(WARN) $(HARDEN) $(SAN_FLAGS)
OUR_LDFLAGS := -pthread $(SAN_FLAGS)
LIBS := $(shell pkg-config --libs $(PKGS)) -linih -lxxhash

LIB_DIRS := common stream pg crypto store repo
LIB_SRC := $(foreach d,$(LIB_DIRS),$(wildcard src/$(d)/*.c))
LIB_OBJ := $(LIB_SRC:src/%.c=$(BUILD)/obj/%.o)
LIB := $(BUILD)/libwalstream.a

.PHONY: all help check check-unit check-integration check-fault demo bench lint asan ubsan tsan fuzz format man \
        install uninstall clean deps deps-test coverage
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:

PROGRAMS :=
include $(wildcard src/*/module.mk)

all: $(PROGRAMS)

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

$(BUILD)/obj/%.o: src/%.c
	@mkdir -p $(@D)
	$(if $(filter 1,$(V)),,@echo "  CC      $<")
	$(Q)$(CC) $(OUR_CPPFLAGS) $(CPPFLAGS) $(OUR_CFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(LIB): $(LIB_OBJ)
	@rm -f $@
	$(if $(filter 1,$(V)),,@echo "  AR      $@")
	$(Q)$(AR) rcs $@ $^

# ---- unit tests: tests/unit/test_X.c is one program that prints TAP ----
UNIT_SRC := $(wildcard tests/unit/test_*.c)
UNIT_BIN := $(UNIT_SRC:tests/unit/%.c=$(BUILD)/tests/unit/%)

$(BUILD)/tests/unit/%: tests/unit/%.c $(LIB) tests/unit/tap.h
	@mkdir -p $(@D)
	$(if $(filter 1,$(V)),,@echo "  CCLD    $@")
	$(Q)$(CC) $(OUR_CPPFLAGS) $(CPPFLAGS) -Itests/unit $(OUR_CFLAGS) $(CFLAGS) -MMD -MP -o $@ $< \
	    $(OUR_LDFLAGS) $(LDFLAGS) $(LIB) $(LIBS)

## check-unit    unit tests only: no server, no network
check-unit: $(UNIT_BIN)
	$(Q)prove --exec '' $(UNIT_BIN)

clean:
	rm -rf build build-*

-include $(LIB_OBJ:.o=.d) $(wildcard $(BUILD)/tests/unit/*.d) $(wildcard $(BUILD)/obj/*/*.d)
