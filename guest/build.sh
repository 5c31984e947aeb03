#!/usr/bin/env bash
# Builds the component from guest/ and wit/ and puts it where the host takes it from, with a record
# of the sources and the toolchain it was built from.
#
# The same sources, locked crates and toolchain give the same bytes in any folder: every path is
# remapped, and flags or profiles from the environment don't count.
set -euo pipefail

TARGET=wasm32-wasip2
PROFILE=component

usage() {
  cat <<'TEXT'
Usage: guest/build.sh [--check] [--out DIR]

Builds the component for wasm32-wasip2 and writes consolidation.wasm, and consolidation.json, the
record of what it was built from, to host/component. Installs the target first if it is missing
(guest/install-target.sh).

  --check    leave host/component alone: build the component under the target directory and compare
             it with the shipped one. Fails if the shipped one's sources are not the present ones, or
             if rustc and the standard library are the recorded ones and a single byte differs. With
             another toolchain the bytes may differ; that is said, and is no failure.
  --out DIR  write the two files to DIR instead (with --check: the rebuilt ones, also to DIR)
TEXT
}

say() { printf 'build: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

check=false
out=
while [ $# -gt 0 ]; do
  case $1 in
    --check) check=true; shift ;;
    --out) [ $# -ge 2 ] || { usage >&2; exit 2; }; out=$2; shift 2 ;;
    --out=*) out=${1#--out=}; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
if [ -n "$out" ]; then
  mkdir -p "$out"
  out=$(cd "$out" && pwd)
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
shipped=$root/host/component
guest/install-target.sh

sysroot=$(rustc --print sysroot)
rustc_version=$(rustc --version | sed 's/^rustc //')
commit=$(rustc -vV | sed -n 's/^commit-hash: //p')
std_dir=$sysroot/lib/rustlib/$TARGET/lib

# One digest over every file of the target's standard library and libc, by name and content.
std_digest() {
  (
    cd "$std_dir"
    find . -type f | LC_ALL=C sort | while read -r path; do
      printf '%s %s\n' "$path" "$("$root/guest/digest.sh" --file "$path")"
    done
  ) >"$scratch/std"
  guest/digest.sh --file "$scratch/std"
}

# The value of a key in the record, which is written below with one key to a line.
recorded() { sed -n "s/.*\"$1\": \"\\{0,1\\}\\([^\",}]*\\)\"\\{0,1\\}.*/\\1/p" "$shipped/consolidation.json"; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# --- build ---------------------------------------------------------------------------------------

for name in $(compgen -e); do
  case $name in
    CARGO_PROFILE_* | CARGO_ENCODED_RUSTFLAGS | RUSTFLAGS | RUSTC_WRAPPER | RUSTC_WORKSPACE_WRAPPER | \
      CARGO_BUILD_RUSTFLAGS | CARGO_BUILD_RUSTC_WRAPPER | CARGO_TARGET_WASM32_WASIP2_* | RUSTC_BOOTSTRAP) unset "$name" ;;
  esac
done
target_dir=${CARGO_TARGET_DIR:-$root/target}/component
case $target_dir in /*) ;; *) target_dir=$root/$target_dir ;; esac
cargo_home=${CARGO_HOME:-$HOME/.cargo}

# Has cargo unpack the crates the guest needs, so that the folders to remap exist.
cargo tree -q -p consolidation-guest --target "$TARGET" --locked >/dev/null

flags=("--remap-path-prefix=$root=/consolidation" "--remap-path-prefix=$target_dir=/target"
  "--remap-path-prefix=$sysroot/lib/rustlib/src/rust=/rustc/$commit")
for registry in "$cargo_home"/registry/src/*; do flags+=("--remap-path-prefix=$registry=/cargo/registry"); done
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; printf '%s' "${flags[*]}")
export CARGO_ENCODED_RUSTFLAGS CARGO_INCREMENTAL=0

# The crate is a library too; cargo leaves link-time optimisation out unless told to build only the cdylib.
cargo rustc -p consolidation-guest --lib --crate-type cdylib --profile "$PROFILE" --target "$TARGET" \
  --target-dir "$target_dir" --locked

built=$target_dir/$TARGET/$PROFILE/consolidation_guest.wasm
sources=$(guest/digest.sh)
component=$(guest/digest.sh --file "$built")
std=$(std_digest)

# Readers find each file complete or not at all.
put() {
  mkdir -p "$1"
  cp "$built" "$1/.consolidation.wasm.new"
  cat >"$1/.consolidation.json.new" <<JSON
{
  "sources": "$sources",
  "component": "$component",
  "bytes": $(wc -c <"$built" | tr -d ' '),
  "toolchain": {
    "rustc": "$rustc_version",
    "std": "$std"
  }
}
JSON
  chmod 644 "$1"/.consolidation.*.new
  mv "$1/.consolidation.wasm.new" "$1/consolidation.wasm"
  mv "$1/.consolidation.json.new" "$1/consolidation.json"
  say "wrote $1/consolidation.wasm ($(wc -c <"$built" | tr -d ' ') bytes)"
}

if ! $check; then
  put "${out:-$shipped}"
  exit 0
fi

# --- compare -------------------------------------------------------------------------------------

put "${out:-$target_dir/rebuilt}"
[ -f "$shipped/consolidation.wasm" ] && [ -f "$shipped/consolidation.json" ] ||
  die "host/component holds no component; run guest/build.sh"
[ "$(recorded sources)" = "$sources" ] ||
  die "guest/, wit/ or the locked crates have changed since the shipped component was built; run guest/build.sh"
if cmp -s "$built" "$shipped/consolidation.wasm"; then
  say "the rebuilt component is byte for byte the shipped one"
elif [ "$(recorded rustc)" = "$rustc_version" ] && [ "$(recorded std)" = "$std" ]; then
  die "the rebuilt component differs from the shipped one though the toolchain is the recorded one; run guest/build.sh"
else
  say "the rebuilt component differs from the shipped one, as it may: the shipped one was built with"
  say "  rustc $(recorded rustc), standard library $(recorded std), this one with"
  say "  rustc $rustc_version, standard library $std"
fi
