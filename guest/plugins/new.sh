#!/bin/sh
# Begins a plugin of one's own: copies the template and the WIT into a new folder, which needs nothing
# else of this project and can be taken anywhere.
#
#   guest/plugins/new.sh DIR    DIR must not exist; its last part is the name of the plugin
set -eu

fail() { echo "new: $*" >&2; exit 1; }

[ $# -eq 1 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
dir=${1%/}
name=$(basename "$dir")
here=$(cd "$(dirname "$0")" && pwd)
[ ! -e "$dir" ] || fail "$dir exists already; name a new folder"
# Also the name of a crate.
case $name in
  [a-z]*) ;;
  *) fail "$name can't be the name of a plugin: it has to begin with a letter from a to z" ;;
esac
case $name in
  *[!a-z0-9-]*) fail "$name can't be the name of a plugin: use letters from a to z, digits and hyphens" ;;
esac

mkdir -p "$dir/src" "$dir/wit"
cp "$here"/../../wit/plugin/*.wit "$dir/wit/"
sed 's|path: "[^"]*"|path: "wit"|; s|^//! `[^`]*new\.sh DIR` copies it\. |//! |' "$here/template/src/lib.rs" >"$dir/src/lib.rs"
sed "/^# A plugin of its own/d; s|^name = .*|name = \"$name\"|; s|^description = .*|description = \"A consolidation plugin\"|" \
  "$here/template/Cargo.toml" >"$dir/Cargo.toml"
cat >>"$dir/Cargo.toml" <<'TOML'

# No part of another workspace, wherever the folder is.
[workspace]

[profile.release]
opt-level = "s"
lto = "fat"
codegen-units = 1
strip = true
panic = "abort"
TOML
printf '/target/\n' >"$dir/.gitignore"

echo "$dir is a plugin. Build it, there:

  cargo build --release --target wasm32-wasip2

and try it on a workspace:

  consolidate --root WORKSPACE run --dry-run --plugin target/wasm32-wasip2/release/$(echo "$name" | tr - _).wasm"
