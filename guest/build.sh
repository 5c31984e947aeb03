#!/usr/bin/env bash
# Builds the component from guest/ and wit/ and puts it where the host takes it from, and the plugins
# that ship, each with a record of the sources and the toolchain it was built from.
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
record of what it was built from, to host/component; and the plugins of guest/plugins as
plugins/NAME.wasm, with one record, plugins/plugins.json. Installs the target first if it is missing
(guest/install-target.sh).

  --check    leave host/component and plugins alone: build under the target directory and compare
             with what is shipped. Fails if the shipped sources are not the present ones, or if rustc
             and the standard library are the recorded ones and a single byte differs. With another
             toolchain the bytes may differ; that is said, and is no failure.
  --out DIR  write the files to DIR and DIR/plugins instead (with --check: the rebuilt ones, also there)
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
shipped_plugins=$root/plugins
plugins=(digest template)
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

# The value of a key in a record, which is written below with one key to a line.
recorded() { sed -n "s/.*\"$2\": \"\{0,1\}\([^\",}]*\)\"\{0,1\}.*/\1/p" "$1"; }

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

packages=(consolidation-guest "${plugins[@]/#/consolidation-}")

# Has cargo unpack the crates they need, so that the folders to remap exist.
cargo tree -q "${packages[@]/#/-p=}" --target "$TARGET" --locked >/dev/null

flags=("--remap-path-prefix=$root=/consolidation" "--remap-path-prefix=$target_dir=/target"
  "--remap-path-prefix=$sysroot/lib/rustlib/src/rust=/rustc/$commit")
for registry in "$cargo_home"/registry/src/*; do flags+=("--remap-path-prefix=$registry=/cargo/registry"); done
# The target's default is code that could be loaded anywhere, and the linker leaves numbers as wide as it
# found them: a tenth of the component.
flags+=(-Crelocation-model=static -Clink-arg=--compress-relocations)
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; printf '%s' "${flags[*]}")
export CARGO_ENCODED_RUSTFLAGS CARGO_INCREMENTAL=0

# The crates are libraries too; cargo leaves link-time optimisation out unless told to build only the
# cdylib, which it takes for one crate at a time.
for package in "${packages[@]}"; do
  cargo rustc -p "$package" --lib --crate-type cdylib --profile "$PROFILE" --target "$TARGET" \
    --target-dir "$target_dir" --locked
done

# For the machine that builds; the flags above are for the component. The same bytes whatever it does.
rustc --edition 2024 -C opt-level=1 -o "$scratch/strip" guest/strip.rs
for package in guest "${plugins[@]}"; do
  "$scratch/strip" "$target_dir/$TARGET/$PROFILE/consolidation_$package.wasm" "$scratch/$package.wasm"
done

built() { printf '%s/%s.wasm' "$scratch" "$1"; }
size() { wc -c <"$1" | tr -d ' '; }
sources=$(guest/digest.sh)
plugin_sources=$(guest/digest.sh --plugins)
std=$(std_digest)

toolchain() {
  cat <<JSON
  "toolchain": {
    "rustc": "$rustc_version",
    "std": "$std"
  }
JSON
}

component_record() {
  cat <<JSON
{
  "sources": "$sources",
  "component": "$(guest/digest.sh --file "$(built guest)")",
  "bytes": $(size "$(built guest)"),
$(toolchain)
}
JSON
}

plugins_record() {
  local name comma=
  printf '{\n  "sources": "%s",\n  "plugins": {' "$plugin_sources"
  for name in "${plugins[@]}"; do
    printf '%s\n    "%s": {\n      "sha256": "%s",\n      "bytes": %s\n    }' "$comma" "$name" \
      "$(guest/digest.sh --file "$(built "$name")")" "$(size "$(built "$name")")"
    comma=,
  done
  printf '\n  },\n%s\n}\n' "$(toolchain)"
}

# Copies standard input to a file that readers find complete or not at all.
put() {
  cat >"$(dirname "$1")/.$(basename "$1").new"
  chmod 644 "$(dirname "$1")/.$(basename "$1").new"
  mv "$(dirname "$1")/.$(basename "$1").new" "$1"
}

# Writes what was built to a folder for the component and one for the plugins.
write() {
  local name
  mkdir -p "$1" "$2"
  put "$1/consolidation.wasm" <"$(built guest)"
  component_record | put "$1/consolidation.json"
  say "wrote $1/consolidation.wasm ($(size "$1/consolidation.wasm") bytes)"
  for name in "${plugins[@]}"; do
    put "$2/$name.wasm" <"$(built "$name")"
    say "wrote $2/$name.wasm ($(size "$2/$name.wasm") bytes)"
  done
  plugins_record | put "$2/plugins.json"
}

if ! $check; then
  if [ -n "$out" ]; then write "$out" "$out/plugins"; else write "$shipped" "$shipped_plugins"; fi
  exit 0
fi

# --- compare -------------------------------------------------------------------------------------

# Compares what was built with a shipped file and its record.
compare() {
  local file=$1 record=$2 rebuilt=$3 digest=$4 of=$5
  [ -f "$file" ] && [ -f "$record" ] || die "there is no $file with a record; run guest/build.sh"
  [ "$(recorded "$record" sources)" = "$digest" ] ||
    die "$of or the locked crates have changed since the shipped $(basename "$file") was built; run guest/build.sh"
  if cmp -s "$rebuilt" "$file"; then
    say "the rebuilt $(basename "$file") is byte for byte the shipped one"
  elif [ "$(recorded "$record" rustc)" = "$rustc_version" ] && [ "$(recorded "$record" std)" = "$std" ]; then
    die "the rebuilt $(basename "$file") differs from the shipped one though the toolchain is the recorded one; run guest/build.sh"
  else
    say "the rebuilt $(basename "$file") differs from the shipped one, as it may: the shipped one was built with"
    say "  rustc $(recorded "$record" rustc), standard library $(recorded "$record" std), this one with"
    say "  rustc $rustc_version, standard library $std"
  fi
}

rebuilt=${out:-$target_dir/rebuilt}
write "$rebuilt" "$rebuilt/plugins"
compare "$shipped/consolidation.wasm" "$shipped/consolidation.json" "$(built guest)" "$sources" 'guest/src, wit/*.wit'
for name in "${plugins[@]}"; do
  compare "$shipped_plugins/$name.wasm" "$shipped_plugins/plugins.json" "$(built "$name")" "$plugin_sources" \
    'guest/plugins, wit/plugin'
done
