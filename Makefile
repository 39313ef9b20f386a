# The longer recipes are in scripts/.

PORT ?= 5000
ADMIN_PORT ?= 9090
URL ?= http://127.0.0.1:$(PORT)
ADMIN_URL ?= http://127.0.0.1:$(ADMIN_PORT)

# What examples/redis needs of an image of Redis, and of one to build on.
REDIS_PROGRAMS = redis-server redis-cli sh sleep wget

.PHONY: help up down build images redis-image test bench bench-ring bench-control bench-roles analysis fuzz fmt lint clean

help:
	@echo 'make up        build and start the balancer, which starts its replicas; PORT=5000 ADMIN_PORT=9090'
	@echo '               without a Docker engine the replicas are processes; DRIVER=docker|process insists'
	@echo 'make down      end and remove the balancer, its replicas, their network and the state'
	@echo 'make build     release binaries for this machine'
	@echo 'make images    both images for the Docker engine; BUILD=host|image says where it is compiled'
	@echo 'make redis-image  ringmaster-redis, an image of the redis-server that is installed here'
	@echo 'make test      all tests; RINGMASTER_TEST_DOCKER=required fails where no Docker engine answers,'
	@echo '               RINGMASTER_TEST_REDIS=required where there is no redis-server'
	@echo 'make bench     CPU time per request beside HAProxy, nginx and Envoy; ROUNDS=5 ONLY=row,row'
	@echo 'make bench-ring  the figures of the ring beside their goals, into analysis/results/ring.md'
	@echo 'make bench-control  what supervising costs at rest, into analysis/results/control.md'
	@echo 'make bench-roles  several processes of one fleet beside their goals, into analysis/results/roles.md;'
	@echo '               needs redis-server and wrk, with a Docker engine containers too; ROUNDS=5 ONLY=row,row'
	@echo 'make analysis  the experiments A-1 to A-3 against URL and ADMIN_URL, and A-4, into analysis/results'
	@echo 'make fuzz      the fuzz targets, on a nightly toolchain; SECONDS_EACH=60 ONLY=target,target'
	@echo 'make fmt       format the sources'
	@echo 'make lint      formatting, clippy, and shellcheck where it is installed'
	@echo 'make clean     remove what was built'

up:
	@PORT=$(PORT) ADMIN_PORT=$(ADMIN_PORT) scripts/up.sh

down:
	@scripts/down.sh

build:
	cargo build --release --locked --workspace

images:
	@scripts/images.sh

redis-image:
	@scripts/import-image.sh ringmaster-redis $(REDIS_PROGRAMS)

test:
	@scripts/test.sh

bench:
	@scripts/bench.sh

bench-ring:
	cargo run --release --locked --package analysis -- ring

bench-control:
	cargo build --release --locked --package ringmaster
	cargo run --release --locked --package analysis -- control

bench-roles:
	@scripts/bench-roles.sh

analysis:
	@PORT=$(PORT) ADMIN_PORT=$(ADMIN_PORT) scripts/analysis.sh $(URL) $(ADMIN_URL)

fuzz:
	@scripts/fuzz.sh

fmt:
	cargo fmt --all

lint:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@if command -v shellcheck >/dev/null; then shellcheck -x scripts/*.sh .ci/run; fi

clean:
	@scripts/clean.sh
