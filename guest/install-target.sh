#!/usr/bin/env bash
# Installs the standard library for wasm32-wasip2 beside the active Rust toolchain.
#
# The ordinary way is rustup. Where rustup is missing or can't download, the library is built here
# from Debian's packages: rust-src of the very version of the active rustc, and wasi-libc. That
# works for any rustc from 1.95 on whose rust-src a Debian suite still carries.
#
# The machine's package configuration stays as it is: the suites are read through an apt state of
# our own in a scratch folder, with their signatures checked against the Debian archive keyring
# that is already there. The toolchain gains one folder, lib/rustlib/wasm32-wasip2, which appears
# complete or not at all; removing that folder undoes the installation.
set -euo pipefail

TARGET=wasm32-wasip2
SUITES=(trixie trixie-backports forky sid)
OLDEST=1.95

usage() {
  cat <<'TEXT'
Usage: guest/install-target.sh [--from auto|rustup|debian]

Installs the standard library for wasm32-wasip2 beside the active Rust toolchain; does nothing if
it is there.

  --from auto     rustup, and where that fails Debian's packages (the default)
  --from rustup   only 'rustup target add wasm32-wasip2'
  --from debian   only a build from Debian's rust-src and wasi-libc packages (about half a minute)

INSTALL_TARGET_FROM in the environment does the same as --from. To undo a build from Debian's
packages, remove lib/rustlib/wasm32-wasip2 from the folder that 'rustc --print sysroot' names; rustup
does not know of it.
TEXT
}

say() { printf 'install-target: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

way=${INSTALL_TARGET_FROM:-auto}
while [ $# -gt 0 ]; do
  case $1 in
    --from) [ $# -ge 2 ] || { usage >&2; exit 2; }; way=$2; shift 2 ;;
    --from=*) way=${1#--from=}; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done
case $way in auto | rustup | debian) ;; *) usage >&2; exit 2 ;; esac

# rustup picks the toolchain by folder: ask for the one this checkout is built with.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v rustc >/dev/null 2>&1 || die "there is no rustc on PATH; install Rust $OLDEST or newer first"
command -v cargo >/dev/null 2>&1 || die "there is no cargo on PATH; install Rust $OLDEST or newer first"
sysroot=$(rustc --print sysroot)
release=$(rustc -vV | sed -n 's/^release: //p')
commit=$(rustc -vV | sed -n 's/^commit-hash: //p')
host=$(rustc -vV | sed -n 's/^host: //p')
target_dir=$sysroot/lib/rustlib/$TARGET

installed() { compgen -G "$target_dir/lib/libstd-*.rlib" >/dev/null; }

if installed; then
  say "$TARGET is already installed for rustc $release"
  exit 0
fi
[ "$(printf '%s\n' "$OLDEST" "$release" | sort -V | head -n 1)" = "$OLDEST" ] ||
  die "rustc $release is too old; $OLDEST or newer is needed"

# --- rustup ------------------------------------------------------------------------------------

# rustup would add the target to its own active toolchain, which need not be the rustc on PATH.
rustup_owns_rustc() {
  command -v rustup >/dev/null 2>&1 || return 1
  local its_rustc
  its_rustc=$(rustup which rustc 2>/dev/null) || return 1
  [ "$(cd "$(dirname "$its_rustc")/.." && pwd -P)" = "$(cd "$sysroot" && pwd -P)" ]
}

limited() { if command -v timeout >/dev/null 2>&1; then timeout "$@"; else shift; "$@"; fi; }

if [ "$way" != debian ]; then
  if rustup_owns_rustc; then
    say "trying: rustup target add $TARGET"
    if limited 300 rustup target add "$TARGET" >&2 && installed; then
      say "installed $TARGET for rustc $release with rustup"
      exit 0
    fi
    say "rustup could not install it"
  else
    say "the active rustc does not belong to rustup"
  fi
  [ "$way" = auto ] || exit 1
  say "going on with Debian's packages"
fi

# --- an apt of our own ---------------------------------------------------------------------------

for tool in apt-get apt-cache dpkg-deb; do
  command -v "$tool" >/dev/null 2>&1 ||
    die "there is no $tool here, so Debian's packages can't be used; run 'rustup target add $TARGET'"
done
[ -w "$sysroot/lib/rustlib" ] || die "can't write to $sysroot/lib/rustlib; run this as the toolchain's owner"
command -v wasm-component-ld >/dev/null 2>&1 || [ -x "$sysroot/lib/rustlib/$host/bin/wasm-component-ld" ] ||
  die "this toolchain has no wasm-component-ld, the linker for $TARGET; use a toolchain of the Rust project"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keyring" ] || die "there is no $keyring; install the package debian-archive-keyring"

scratch=$(mktemp -d)
incoming=
cleanup() { rm -rf "$scratch" ${incoming:+"$incoming"}; }
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Where the machine gets its own Debian packages from; lists need not have been downloaded yet.
mapfile -t bases < <(
  apt-get update --print-uris 2>/dev/null | sed -n "s#^'\(.*\)/dists/[^/]*/InRelease'.*#\1#p" |
    grep -v -- '-security' | awk '!seen[$0]++' |
    awk '/\/debian$/ { print; next } { rest = rest $0 "\n" } END { printf "%s", rest }'
)
[ ${#bases[@]} -gt 0 ] || die "apt's configuration names no package archive to read rust-src from"

mkdir -p "$scratch/lists/partial" "$scratch/archives/partial" "$scratch/debs" "$scratch/root" "$scratch/std"
# The hooks are cleared because some machines hang commands on 'apt-get update' that touch their own caches.
cat >"$scratch/apt.conf" <<CONF
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::Etc::sourcelist "$scratch/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::lists "$scratch/lists";
Dir::Cache::archives "$scratch/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
CONF

# The newest revision of a package whose version matches, or nothing.
version_of() {
  apt-cache -c "$scratch/apt.conf" madison "$1" 2>/dev/null | awk -F' *[|] *' '{ print $2 }' |
    grep -E "$2" | sort -rV | head -n 1 || true
}

src_version=
for base in "${bases[@]}"; do
  for suite in "${SUITES[@]}"; do
    printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$base" "$suite"
  done >"$scratch/sources.list"
  say "reading the package lists of ${SUITES[*]}"
  limited 600 apt-get -c "$scratch/apt.conf" -qq update >"$scratch/update.log" 2>&1 ||
    { sed 's/^/  /' "$scratch/update.log" >&2; say "some lists could not be read; going on with the others"; }
  src_version=$(version_of rust-src "^${release//./\\.}[^0-9.]")
  [ -z "$src_version" ] || break
done
if [ -z "$src_version" ]; then
  carried=$(apt-cache -c "$scratch/apt.conf" madison rust-src 2>/dev/null |
    awk -F' *[|] *' '{ sub(/[+~-].*/, "", $2); print $2 }' | sort -uV | tr '\n' ' ')
  die "no Debian suite carries rust-src $release (there are: ${carried:-none that could be read}); use rustup or a rustc of one of these versions"
fi
libc_version=$(version_of wasi-libc .)
[ -n "$libc_version" ] || die "no Debian suite carries wasi-libc"

say "fetching rust-src $src_version and wasi-libc $libc_version"
(cd "$scratch/debs" && limited 900 apt-get -c "$scratch/apt.conf" -qq download \
  "rust-src=$src_version" "wasi-libc=$libc_version" >&2) || die "could not fetch the packages"
dpkg-deb -x "$scratch"/debs/wasi-libc_*.deb "$scratch/root"
dpkg-deb --fsys-tarfile "$scratch"/debs/rust-src_*.deb |
  tar -x -C "$scratch/root" --wildcards './usr/src/rustc-*/library'
library=$(compgen -G "$scratch/root/usr/src/rustc-*/library" | head -n 1)
[ -f "$library/sysroot/Cargo.toml" ] || die "rust-src $src_version has no library/sysroot"
# wasi-libc from 2024 on has a folder for each WASI version.
libc=$scratch/root/usr/lib/$TARGET
[ -f "$libc/libc.a" ] && [ -f "$libc/crt1-command.o" ] && [ -f "$libc/crt1-reactor.o" ] ||
  die "wasi-libc $libc_version has no libc for $TARGET"

# --- the standard library -----------------------------------------------------------------------

# Built as a workspace of its own, not with -Zbuild-std: cargo then names the crates by their place
# in that workspace, so that the library's bytes don't depend on where this toolchain lives.
say "building the standard library for $TARGET"
cargo_home=${CARGO_HOME:-$HOME/.cargo}
build() {
  cd "$library"
  unset RUSTFLAGS CARGO_BUILD_TARGET CARGO_BUILD_RUSTFLAGS RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER
  export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$scratch/target" CARGO_INCREMENTAL=0
  export CARGO_PROFILE_RELEASE_OPT_LEVEL=3 CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1
  export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_STRIP=none CARGO_PROFILE_RELEASE_PANIC=unwind
  # Without this the crates with a dylib beside their rlib would get no hash in their names.
  export __CARGO_DEFAULT_LIB_METADATA=std
  local arguments=(--locked --manifest-path sysroot/Cargo.toml)
  cargo fetch -q "${arguments[@]}" --target "$TARGET" >&2
  local flags=(-Zforce-unstable-if-unmarked -Cembed-bitcode=yes "--remap-path-prefix=$scratch=/build"
    "--remap-path-prefix=$library=/rustc/${commit:-$release}/library") registry
  for registry in "$cargo_home"/registry/src/*; do flags+=("--remap-path-prefix=$registry=/cargo/registry"); done
  CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; printf '%s' "${flags[*]}")
  export CARGO_ENCODED_RUSTFLAGS
  cargo build -q "${arguments[@]}" --release --target "$TARGET" --features 'panic-unwind backtrace' >&2
}
(build) || die "building the standard library failed"

incoming=$(mktemp -d "$sysroot/lib/rustlib/.$TARGET.XXXXXX")
chmod 755 "$incoming"
mkdir -p "$incoming/lib/self-contained"
cp "$scratch/target/$TARGET/release/deps"/*.rlib "$incoming/lib/"
cp "$libc/crt1-command.o" "$libc/crt1-reactor.o" "$libc/libc.a" "$incoming/lib/self-contained/"
compgen -G "$incoming/lib/libstd-*.rlib" >/dev/null || die "the build left no libstd"
rm -rf "$target_dir"
mv "$incoming" "$target_dir"
incoming=
say "installed $TARGET for rustc $release from rust-src $src_version and wasi-libc $libc_version"
