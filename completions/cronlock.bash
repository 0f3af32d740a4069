# Completion of cronlock for bash; install it as bash-completion/completions/cronlock.
eval "$(_CRONLOCK_COMPLETE=bash_source cronlock)"
