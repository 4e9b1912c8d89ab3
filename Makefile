# Sealpost's front door. `make help` lists what there is.

CARGO ?= cargo
# Always the whole workspace: a part of it would be built again with other features of the same dependencies.
# Where cargo puts programs.
PROGRAMS := $(or $(CARGO_TARGET_DIR),target)
# Data of the run-* targets lives here; nothing else is written outside of cargo's target directory.
STATE ?= .demo
# What is installed, and where: as GNU has it, and units of systemd and settings as the units name them.
INSTALLED := sealpost sealpost-broker sealpost-archiver sealpost-device
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR ?=

.DEFAULT_GOAL := help
.PHONY: help build demo test test-tools check fmt clippy deny doc book vectors schema screenshots transcripts man programs install uninstall release deb deb-test fixtures device bench bench-quick bench-tools conformance fuzz soak interop run-broker run-archiver clean

help: ## List what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build everything (into target/debug, or where CARGO_TARGET_DIR says)
	$(CARGO) build --workspace --locked

demo: ## Broker, archiver, alice and bob as real processes: they talk sealed, the archive is shown
	$(CARGO) build --workspace --locked
	tests/demo $(PROGRAMS)/debug

test: test-tools ## Install what tests need, then run all of them
	$(CARGO) build --workspace --locked
	$(CARGO) test --workspace --locked --no-fail-fast

# A C compiler for the cryptography; Python with venv and pip for the second implementation and paho-mqtt; Node.js and npm for
# mqtt.js; mosquitto's clients; mosquitto and NATS, brokers that client and archiver also run against, and mkpasswd for NATS's users; jq for the example of a bot in shell; faketime, which makes clocks jump; tinyproxy and microsocks, proxies for HTTP CONNECT and SOCKS5; age, which opens a backup, and script(1), a
# terminal for it; tmux, a terminal whose keys are
# pressed and whose screen is read; a keyring with secret-tool, which holds a passphrase; promtool, which checks the alerts, and what the pages of
# docs/ use beside our programs; systemd-analyze, which judges the units. What is there already is not asked for again, so that a machine which has everything needs
# neither root nor apt.
test-tools:
	@command -v cc >/dev/null || { apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev; }
	@command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null \
		|| { apt-get update && apt-get install -y --no-install-recommends python3 python3-venv python3-pip; }
	@command -v node >/dev/null && command -v npm >/dev/null \
		|| { apt-get update && apt-get install -y --no-install-recommends nodejs npm; }
	@command -v mosquitto_pub >/dev/null && command -v mosquitto_sub >/dev/null \
		|| { apt-get update && apt-get install -y --no-install-recommends mosquitto-clients; }
	@{ command -v mosquitto || test -x /usr/sbin/mosquitto; } >/dev/null \
		|| { apt-get update && apt-get install -y --no-install-recommends mosquitto; }
	@command -v mkpasswd >/dev/null || { apt-get update && apt-get install -y --no-install-recommends whois; }
	@command -v jq >/dev/null || { apt-get update && apt-get install -y --no-install-recommends jq; }
	@command -v faketime >/dev/null \
		|| { apt-get update && apt-get install -y --no-install-recommends faketime; }
	@command -v tinyproxy >/dev/null && command -v microsocks >/dev/null \
		|| { apt-get update && apt-get install -y --no-install-recommends tinyproxy-bin microsocks; }
	@command -v age >/dev/null || { apt-get update && apt-get install -y --no-install-recommends age; }
	@command -v secret-tool >/dev/null && command -v gnome-keyring-daemon >/dev/null && command -v dbus-run-session >/dev/null \
		|| { apt-get update && apt-get install -y --no-install-recommends gnome-keyring libsecret-tools dbus-daemon; }
	@command -v systemd-analyze >/dev/null || { apt-get update && apt-get install -y --no-install-recommends systemd; }
	@command -v script >/dev/null || { apt-get update && apt-get install -y --no-install-recommends bsdutils; }
	@command -v make >/dev/null && command -v pkg-config >/dev/null && pkg-config --exists libmosquitto libcrypto jansson \
		|| { apt-get update && apt-get install -y --no-install-recommends make pkg-config libmosquitto-dev libssl-dev libjansson-dev; }
	@command -v valgrind >/dev/null || { apt-get update && apt-get install -y --no-install-recommends valgrind libc6-dbg; }
	@command -v tmux >/dev/null || { apt-get update && apt-get install -y --no-install-recommends tmux; }
	@command -v promtool >/dev/null || { apt-get update && apt-get install -y --no-install-recommends prometheus; }
	@command -v unshare >/dev/null && command -v ip >/dev/null && command -v socat >/dev/null && command -v curl >/dev/null \
		&& command -v openssl >/dev/null && command -v sqlite3 >/dev/null && command -v zstdcat >/dev/null && command -v pkill >/dev/null \
		|| { apt-get update && apt-get install -y --no-install-recommends util-linux iproute2 socat curl openssl sqlite3 zstd procps; }
	tests/stranger/stranger --help >/dev/null
	tests/brokers/nats-server --version >/dev/null
	tests/clients/mqttjs/mqttjs --install
	examples/ready

check: fmt clippy deny ## Formatting, lints, licences and advisories

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy -p sealpost-core --no-default-features --locked -- -D warnings

deny:
	@command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) deny --locked check

doc: ## Build the API documentation, warnings as errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

# A debug build without its server takes a minute of a processor; it is kept in target, and in no other place.
book: ## Build the book of docs/ into target/book
	@test -x $(PROGRAMS)/mdbook/bin/mdbook || CARGO_TARGET_DIR=$(PROGRAMS)/mdbook/build $(CARGO) install --quiet --locked --debug \
		--no-default-features --root $(PROGRAMS)/mdbook --version 0.5.4 mdbook && rm -rf $(PROGRAMS)/mdbook/build
	$(PROGRAMS)/mdbook/bin/mdbook build docs

vectors: ## Write the test vectors again (the same bytes, unless the format changed)
	$(CARGO) run --locked -p sealpost-core --example make_vectors
	$(CARGO) run --locked -p sealpost-archive --example proof_vectors > archive/tests/vectors/inclusion_proofs.json

schema: ## Write the JSON schemas of what the client writes again (client/schema)
	$(CARGO) run --locked -p sealpost --example write_schemas

screenshots: ## Take the pictures of the chat in docs/ anew, from the real program under tmux
	@command -v tmux >/dev/null || { apt-get update && apt-get install -y --no-install-recommends tmux; }
	$(CARGO) build --workspace --locked
	docs/screenshots/take $(PROGRAMS)/debug

transcripts: ## Write what the programs say into tests/transcripts again; read the difference
	$(CARGO) build --workspace --locked
	SEALPOST_WRITE_TRANSCRIPTS=1 $(CARGO) test --locked -p sealpost-tests --test transcripts

fixtures: ## Keep what today's programs write as tests/fixtures/VERSION.tar.gz, for ever: after a change of a format, VERSION=the next number
	@test -n "$(VERSION)" || { echo "VERSION=number is missing: tests/fixtures/README.md says which"; exit 2; }
	$(CARGO) build --workspace --locked
	SEALPOST_WRITE_FIXTURE=$(VERSION) $(CARGO) test --workspace --locked --test upgrade

man: ## Write man pages and shell completions into target/man and target/completions
	$(CARGO) build --workspace --locked
	mkdir -p $(PROGRAMS)/man $(PROGRAMS)/completions
	$(PROGRAMS)/debug/sealpost-manual $(PROGRAMS)/man $(PROGRAMS)/completions

programs: ## Build the programs as they are installed (target/release), with man pages and completions (target/package)
	$(CARGO) build --release --locked $(addprefix -p ,$(INSTALLED)) -p sealpost-manual
	packaging/papers $(PROGRAMS)/release target/package

# Builds only what was never built, so that `make programs && sudo make install` needs no cargo as root.
install: ## Install programs, man pages, completions, units and settings below PREFIX (/usr/local), into DESTDIR
	@test -x $(PROGRAMS)/release/sealpost-manual || $(MAKE) programs
	@test -d target/package/sealpost || packaging/papers $(PROGRAMS)/release target/package
	DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" SYSCONFDIR="$(SYSCONFDIR)" packaging/install install $(PROGRAMS)/release target/package

uninstall: ## Remove what `make install` installed, but neither settings nor what the services kept
	DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" SYSCONFDIR="$(SYSCONFDIR)" packaging/install uninstall

release: programs ## Make a tar.gz of the programs and SHA256SUMS in target/dist, the same bytes from the same commit and compiler
	packaging/release $(PROGRAMS)/release target/package target/dist

deb: programs ## Build Debian packages (target/debian)
	@command -v cargo-deb >/dev/null || $(CARGO) install --locked cargo-deb
	@command -v dpkg-shlibdeps >/dev/null || { apt-get update && apt-get install -y --no-install-recommends dpkg-dev; }
	packaging/debian/prepare target/package
	for program in $(INSTALLED); do $(CARGO) deb --locked --no-build -p $$program || exit 1; done

deb-test: ## Install, use, remove and purge the packages of `make deb` in a fresh Debian 12 (needs root and debootstrap)
	@command -v debootstrap >/dev/null || { apt-get update && apt-get install -y --no-install-recommends debootstrap; }
	packaging/debian/try target/debian

device: ## Build sealpost-device to be small (target/device), and check that it is: 10 MiB resident
	$(CARGO) build --locked --profile device -p sealpost-device
	$(CARGO) build --workspace --locked
	SEALPOST_TEST_DEVICE=$(abspath $(PROGRAMS))/device/sealpost-device \
		$(CARGO) test --workspace --locked --test devices -- --nocapture small_with_a_full_ring

bench: bench-tools ## Measure beside mosquitto and NATS in the same run, every message counted, and write docs/benchmarks.md (release build; some 15 minutes)
	$(BENCH) --page docs/benchmarks.md

bench-quick: bench-tools ## The same in single short rounds, into target/bench (release build, then under three minutes)
	mkdir -p target/bench
	$(BENCH) --page target/bench/benchmarks.md --quick

BENCH = $(CARGO) build --release --locked -p sealpost-broker -p sealpost-archiver -p sealpost-bench \
	&& $(PROGRAMS)/release/sealpost-bench document --nats tests/brokers/.venv/bin/nats-server

bench-tools:
	@{ command -v mosquitto || test -x /usr/sbin/mosquitto; } >/dev/null && command -v mosquitto_sub >/dev/null \
		|| { apt-get update && apt-get install -y --no-install-recommends mosquitto mosquitto-clients; }
	@tests/brokers/nats-server --version >/dev/null

conformance: ## Run a public MQTT suite found at SUITE=path (see docs/conformance.md); BROKER=mosquitto to compare
	@test -n "$(SUITE)" || { echo "SUITE=path is missing: docs/conformance.md says where the suites are"; exit 2; }
	$(CARGO) build --locked -p sealpost-broker
	tests/conformance/run auto "$(SUITE)"

# libFuzzer needs compiler flags that stable Rust takes only this way. No sanitizer: there is no unsafe code of ours to watch.
fuzz: ## Fuzz the broker's decoder and conversations for FUZZ_SECONDS (60) each
	@command -v cargo-fuzz >/dev/null || $(CARGO) install --locked cargo-fuzz
	for target in decoder conversation; do \
		found=broker/fuzz/target/found/$$target; mkdir -p $$found; \
		RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --fuzz-dir broker/fuzz -s none $$target $$found broker/fuzz/corpus/$$target -- \
			-max_total_time=$${FUZZ_SECONDS:-60} -dict=broker/fuzz/mqtt.dict || exit 1; \
	done

soak: test-tools ## Kill -9 the broker SEALPOST_KILL_ROUNDS (100) times, then a bad night for SEALPOST_SOAK_SECONDS (600), every message accounted for
	$(CARGO) build --workspace --locked
	SEALPOST_KILL_ROUNDS=$${SEALPOST_KILL_ROUNDS:-100} $(CARGO) test --locked -p sealpost-tests --test kills -- --nocapture
	SEALPOST_SOAK_SECONDS=$${SEALPOST_SOAK_SECONDS:-600} $(CARGO) test --locked -p sealpost-tests --test storms -- --nocapture

interop: test-tools ## The devices of examples/ and `sealpost`, each with each other, over a broker that is killed; and the vectors
	$(CARGO) build --workspace --locked
	$(CARGO) test --locked -p sealpost-tests --test interop -- --nocapture

run-broker: ## Run a broker on 127.0.0.1:1883 that the archiver of `make run-archiver` may read
	$(CARGO) build --workspace --locked
	$(PROGRAMS)/debug/sealpost-broker --config config/broker.toml --data $(STATE)/broker \
		--archiver "archiver=$$($(PROGRAMS)/debug/sealpost-archiver key --dir $(STATE)/archive)"

run-archiver: ## Run an archiver beside it
	$(CARGO) build --workspace --locked
	$(PROGRAMS)/debug/sealpost-archiver run --broker mqtt://127.0.0.1:1883 --dir $(STATE)/archive

clean: ## Remove what was built and what run-* kept
	$(CARGO) clean
	rm -rf $(STATE)
