#!/bin/sh
# Prints the digest of everything the component is built from: the guest's sources and manifest,
# guest/strip.rs, the WIT files, the build profile and workspace settings it inherits, and the locked
# versions and checksums of the crates it depends on. It is the one definition of "the shipped component
# matches its sources": build.sh records what it prints, a test compares it. The shipped plugins have a digest of
# their own, so that who changes a plugin need not rebuild the component, and the other way round.
#
# Needs neither cargo nor a network. Of the locked crates the ones that only tests or the native
# build use are left out.
#
#   guest/digest.sh              the digest
#   guest/digest.sh --plugins    the one of the shipped plugins
#   guest/digest.sh [--plugins] --list
#                                the lines it is made of, to see what changed
#   guest/digest.sh --file FILE  the SHA-256 of one file, as it is recorded
set -eu
LC_ALL=C
export LC_ALL

sha256() {
  if command -v sha256sum >/dev/null 2>&1; then sha256sum; else shasum -a 256; fi | sed 's/ .*//'
}

if [ "${1-}" = --file ]; then
  sha256 <"$2"
  exit
fi

cd "$(dirname "$0")/.."

# What counts: the crates, their sources, and the WIT.
packages=consolidation-guest
manifests='guest/Cargo.toml guest/json/Cargo.toml'
sources='guest/src guest/json/src guest/strip.rs wit/*.wit wit/deps/*.wit'
if [ "${1-}" = --plugins ]; then
  shift
  packages='consolidation-digest consolidation-template'
  manifests='guest/plugins/digest/Cargo.toml guest/plugins/template/Cargo.toml'
  sources='guest/plugins/digest/src guest/plugins/template/src guest/strip.rs wit/plugin'
fi

# None of these names holds a space.
files() {
  find $sources -type f ! -name '.*' ! -name '*~' | sort | while read -r path; do
    printf 'file %s %s\n' "$path" "$(sha256 <"$path")"
  done
}

# The manifests without what only tests, benchmarks and the native build use.
own_manifest() {
  awk '
    /^\[/ { counts = !/dev-dependencies|^\[lints|^\[\[(test|bench|example)/ && !/cfg\((not|unix|windows)/ }
    /^ *(#|$)/ { next }
    counts
  ' $manifests
}

# The names of the crates that it brings into the component.
direct() {
  own_manifest | awk '
    /^\[/ {
      counts = /dependencies/
      named = $0
      if (counts && named ~ /dependencies\.[^.]+\]$/) { sub(/.*\./, "", named); sub(/\].*/, "", named); print named }
      within = counts && $0 ~ /dependencies\]$/
      next
    }
    within && /^[A-Za-z0-9_-]+ *[.=]/ {
      name = $0
      if (match(name, /package *= *"[^"]*"/)) { name = substr(name, RSTART, RLENGTH); gsub(/package *= *|"/, "", name) }
      else sub(/[ .=].*/, "", name)
      print name
    }
  ' | sort -u
}

# The parts of the workspace manifest that reach the component's bytes.
settings() {
  awk -v names="$(direct | tr '\n' ' ')" '
    BEGIN { split(names, list, " "); for (i in list) wanted[list[i]] = 1 }
    /^ *(#|$)/ { next }
    /^\[/ { section = $0 }
    section ~ /^\[profile\.(component|release)[].]/ { print "setting " $0 }
    section == "[workspace.package]" && /^(edition|version)/ { print "setting " $0 }
    section == "[workspace.dependencies]" {
      name = $0; sub(/[ .=].*/, "", name)
      if (name in wanted) print "setting " $0
    }
  ' Cargo.toml
}

# What those crates and everything they depend on are locked to.
locked() {
  awk -v names="$(direct | tr '\n' ' ')" -v packages="$packages" '
    function value(line) { sub(/^[^"]*"/, "", line); sub(/".*/, "", line); return line }
    /^\[\[package\]\]/ { count++ }
    /^name = /     { name[count] = value($0) }
    /^version = /  { version[count] = value($0); by_name[name[count]] = count; by_both[name[count] " " version[count]] = count }
    /^checksum = / { checksum[count] = value($0) }
    /^ "/          { needs[count] = needs[count] value($0) "\n" }
    function visit(id,    parts, n, i) {
      if (!id || (id in seen)) return
      seen[id] = 1
      print "locked " name[id] " " version[id] " " checksum[id]
      n = split(needs[id], parts, "\n")
      for (i = 1; i < n; i++) follow(parts[i])
    }
    function follow(need,    parts) {
      split(need, parts, " ")
      if ((parts[1] " " parts[2]) in by_both) visit(by_both[parts[1] " " parts[2]])
      else visit(by_name[parts[1]])
    }
    END {
      n = split(names, list, " ")
      for (i = 1; i <= n; i++) wanted[list[i]] = 1
      count = split(packages, list, " ")
      for (k = 1; k <= count; k++) {
        n = split(needs[by_name[list[k]]], parts, "\n")
        for (i = 1; i < n; i++) { split(parts[i], word, " "); if (word[1] in wanted) follow(parts[i]) }
      }
    }
  ' Cargo.lock | sort
}

lock=$(locked)
[ -n "$lock" ] || {
  echo "digest: Cargo.lock does not list what $packages depends on; run any cargo build" >&2
  exit 1
}
manifest() { files; own_manifest | sed 's/^/manifest /'; settings; printf '%s\n' "$lock"; }

case ${1-} in
  '') manifest | sha256 ;;
  --list) manifest ;;
  *) sed -n 's/^# \{0,1\}//; 2,15p' "$0" >&2; exit 2 ;;
esac
