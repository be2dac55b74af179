# Sourced by run and test: finds a Rust toolchain before xtask is built. The first that works is taken: the one that
# rust-toolchain.toml pins, by rustup; else Debian's own, 1.95 or newer, which builds the targets' libraries from source.
DEBIAN_RUST="rustc-web cargo-web rust-web-src rust-web-llvm lld-22"

# The pinned toolchain and its targets, installed where that is allowed.
has_pinned_rust() {
    [ -x "$HOME/.cargo/bin/cargo" ] && PATH="$HOME/.cargo/bin:$PATH"
    command -v rustup >/dev/null 2>&1 || return 1
    channel=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
    if ! rustup run "$channel" cargo --version >/dev/null 2>&1; then
        echo "==> installing the Rust toolchain $channel" >&2
        rustup toolchain install "$channel" --profile minimal --component rustfmt --component clippy >&2 || return 1
    fi
    for target in $(sed -n 's/^targets = \[\(.*\)\]/\1/p' rust-toolchain.toml | tr -d '",'); do
        rustup target list --toolchain "$channel" --installed | grep -qx "$target" && continue
        echo "==> adding the Rust target $target" >&2
        rustup target add --toolchain "$channel" "$target" >&2 || return 1
    done
}

# Debian's compiler, new enough, with its sources and the linker that it calls by name.
has_debian_rust() {
    [ -f /usr/lib/rustlib/src/rust/library/Cargo.lock ] && /usr/bin/rust-lld -flavor gnu --version >/dev/null 2>&1 || return 1
    version=$(/usr/bin/cargo --version 2>/dev/null) || return 1
    minor=$(echo "$version" | sed -n 's/^cargo 1\.\([0-9]*\)\..*/\1/p')
    [ "${minor:-0}" -ge 95 ]
}

install_debian_rust() {
    install="apt-get install -y --no-install-recommends $DEBIAN_RUST"
    if [ "$(id -u)" = 0 ]; then as_root=
    elif sudo -n true 2>/dev/null; then as_root=sudo
    else as_root=no
    fi
    if ! command -v apt-get >/dev/null 2>&1 || [ "$as_root" = no ]; then
        echo "bulkhead: no Rust toolchain that fits (rustup, or Debian's Rust), and none may be installed here; on Debian run:" >&2
        echo "    sudo $install" >&2
        exit 1
    fi
    echo "==> installing Debian's Rust ($DEBIAN_RUST)" >&2
    $as_root apt-get update -qq >&2 && $as_root env DEBIAN_FRONTEND=noninteractive $install -qq >&2
}

if has_pinned_rust; then
    :
else
    has_debian_rust || install_debian_rust
    has_debian_rust || { echo "bulkhead: Debian's Rust is older than 1.95 (enable its security updates) or incomplete" >&2; exit 1; }
    echo "==> the pinned Rust toolchain is not to be had: Debian's $(/usr/bin/rustc --version) is used" >&2
    PATH="/usr/bin:/bin:$PATH"
fi
export PATH
