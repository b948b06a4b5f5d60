# SPDX-License-Identifier: GPL-2.0
# Compiled programs of languages.py; included after lib.mk. A language without an
# installed compiler is left out.

GO ?= go
RUSTC ?= rustc

LANGUAGES := $(if $(shell command -v $(CXX)),cxx)
LANGUAGES += $(if $(shell command -v $(GO)),golang)
LANGUAGES += $(if $(shell command -v $(RUSTC)),rust)
LANGUAGE_PROGRAMS := $(patsubst %,$(OUTPUT)/language_%,$(LANGUAGES))
GO_CACHE := $(abspath $(OUTPUT))/go-cache

all: $(LANGUAGE_PROGRAMS)
TEST_GEN_FILES += $(LANGUAGE_PROGRAMS)
TEST_FILES += languages.d
EXTRA_CLEAN += $(GO_CACHE)

# options.c with each of these, as NAME_64 and NAME_32.
OPTIONS_O0 := -O0
OPTIONS_O1 := -O1
OPTIONS_O2 := -O2
OPTIONS_O3 := -O3
OPTIONS_Os := -Os
OPTIONS_thunks := -O2 -mindirect-branch=thunk -mfunction-return=thunk
OPTIONS_inline_thunks := -O2 -mindirect-branch=thunk-inline -mfunction-return=thunk-inline
OPTIONS_cet := -O2 -fcf-protection=full
OPTIONS_frames := -O2 -fno-omit-frame-pointer
OPTIONS_protector := -O2 -fstack-protector-all -mstack-protector-guard=global
OPTIONS_no_tables := -O2 -fno-jump-tables
OPTIONS_pic := -O2 -fPIC
OPTIONS := O0 O1 O2 O3 Os thunks inline_thunks cet frames protector no_tables pic
OPTION_PROGRAMS := $(foreach o,$(OPTIONS),$(OUTPUT)/options_$(o)_64 $(OUTPUT)/options_$(o)_32)

all: $(OPTION_PROGRAMS)
TEST_GEN_FILES += $(OPTION_PROGRAMS)

FREESTANDING := -Wall -nostdlib -static -no-pie -Wl,--build-id=none

$(OUTPUT)/options_%_64: languages.d/options.c
	$(call msg,CC,,$@)
	$(Q)$(CC) -m64 $(OPTIONS_$*) $(FREESTANDING) $< -o $@

$(OUTPUT)/options_%_32: languages.d/options.c
	$(call msg,CC,,$@)
	$(Q)$(CC) -m32 $(OPTIONS_$*) $(FREESTANDING) $< -o $@

$(OUTPUT)/language_cxx: languages.d/cxx.cc
	$(call msg,CXX,,$@)
	$(Q)$(CXX) -O2 -g -Wall -Wextra -pthread $< -o $@

# Builds a single file, and fetches nothing.
$(OUTPUT)/language_golang: languages.d/golang.go
	$(call msg,GO,,$@)
	$(Q)GOCACHE=$(GO_CACHE) GO111MODULE=off GOFLAGS= GOPROXY=off CGO_ENABLED=0 \
		$(GO) build -o $(abspath $@) $<

$(OUTPUT)/language_rust: languages.d/rust.rs
	$(call msg,RUSTC,,$@)
	$(Q)$(RUSTC) --edition 2021 -O -g -D warnings $< -o $@
