# shellcheck shell=bash
# Completion of cronlock for bash; install it as bash-completion/completions/cronlock.
_cronlock_completion() {
    local IFS=$'\n' line=${COMP_LINE:0:COMP_POINT} word=${COMP_WORDS[COMP_CWORD]} typed='' type value
    # The program splits the line: bash would also split keys and URLs at their colons. An empty word is one that
    # is about to begin.
    [[ -n $word ]] || line+="''"
    # The part of the word that bash does not replace, since it split the word at a colon.
    if [[ $word != [\"\']* && $line =~ ([^[:space:]\\]|\\.)+$ ]]; then
        typed=${BASH_REMATCH[0]%"$word"}
        [[ $COMP_WORDBREAKS != *"$word"* ]] || typed+=$word
        # After --option= the program prints only values.
        [[ $typed != --*=* ]] || typed=${typed#*=}
    fi
    while IFS=',' read -r type value; do
        case $type in
        dir) compopt -o dirnames ;;
        file) compopt -o default ;;
        plain)
            # Within quotes nothing needs to be escaped.
            [[ $word == [\"\']* ]] || printf -v value %q "$value"
            COMPREPLY+=("${value#"$typed"}")
            ;;
        esac
    done < <(COMP_WORDS=$line COMP_CWORD=-1 _CRONLOCK_COMPLETE=bash_complete "$1")
}
complete -o nosort -F _cronlock_completion cronlock
