# shellcheck shell=bash
# Completion of cronlock for bash; install it as bash-completion/completions/cronlock.
_cronlock_completion() {
    local IFS=$'\n' line=${COMP_LINE:0:COMP_POINT} word=${COMP_WORDS[COMP_CWORD]} typed='' type value
    # The program splits the line, since bash would also split a key or an URL at its colons. A word that is
    # about to begin is an empty one.
    [[ -n $word ]] || line+="''"
    # What bash takes for words before the one that it replaces, although they are the beginning of it.
    if [[ $word != [\"\']* && $line =~ ([^[:space:]\\]|\\.)+$ ]]; then
        typed=${BASH_REMATCH[0]%"$word"}
        [[ $COMP_WORDBREAKS != *"$word"* ]] || typed+=$word
        # The program offers values alone.
        [[ $typed != --*=* ]] || typed=${typed#*=}
    fi
    while IFS=',' read -r type value; do
        case $type in
        dir) compopt -o dirnames ;;
        file) compopt -o default ;;
        plain)
            # Within quotes a key is itself.
            [[ $word == [\"\']* ]] || printf -v value %q "$value"
            COMPREPLY+=("${value#"$typed"}")
            ;;
        esac
    done < <(COMP_WORDS=$line COMP_CWORD=-1 _CRONLOCK_COMPLETE=bash_complete "$1")
}
complete -o nosort -F _cronlock_completion cronlock
