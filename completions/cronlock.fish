# Completion of cronlock for fish; install it in vendor_completions.d.
_CRONLOCK_COMPLETE=fish_source cronlock | source
