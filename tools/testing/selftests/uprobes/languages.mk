# SPDX-License-Identifier: GPL-2.0
# The programs of languages.py that are compiled; included after lib.mk. A language whose
# compiler is not installed is left out.

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

$(OUTPUT)/language_cxx: languages.d/cxx.cc
	$(call msg,CXX,,$@)
	$(Q)$(CXX) -O2 -g -Wall -Wextra -pthread $< -o $@

# Of a single file; nothing is fetched.
$(OUTPUT)/language_golang: languages.d/golang.go
	$(call msg,GO,,$@)
	$(Q)GOCACHE=$(GO_CACHE) GO111MODULE=off GOFLAGS= GOPROXY=off CGO_ENABLED=0 \
		$(GO) build -o $(abspath $@) $<

$(OUTPUT)/language_rust: languages.d/rust.rs
	$(call msg,RUSTC,,$@)
	$(Q)$(RUSTC) --edition 2021 -O -g -D warnings $< -o $@
