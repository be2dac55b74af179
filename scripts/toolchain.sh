# Sourced by run and test: makes sure that cargo and the pinned toolchain answer before xtask is built.
if ! command -v cargo >/dev/null 2>&1; then
    if [ -x "$HOME/.cargo/bin/cargo" ]; then
        PATH="$HOME/.cargo/bin:$PATH"
        export PATH
    else
        echo "bulkhead: cargo is missing; install Rust, for example: apt-get install rustup && rustup default stable" >&2
        exit 1
    fi
fi
if command -v rustup >/dev/null 2>&1; then
    channel=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
    if ! rustup run "$channel" rustc --version >/dev/null 2>&1; then
        echo "==> installing the Rust toolchain $channel"
        rustup toolchain install "$channel" --profile minimal --component rustfmt --component clippy
    fi
fi
