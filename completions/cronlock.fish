# Completion of cronlock for fish; install it in vendor_completions.d.
function _cronlock_completion
    for found in (_CRONLOCK_COMPLETE=fish_complete COMP_WORDS=(commandline -cp) COMP_CWORD=(commandline -t) cronlock)
        set -l parts (string split -m 1 "," -- $found)
        switch $parts[1]
            case dir
                __fish_complete_directories $parts[2]
            case file
                __fish_complete_path $parts[2]
            case plain
                echo $parts[2]
        end
    end
end
complete --no-files --command cronlock --arguments "(_cronlock_completion)"
