/**
 * The completion scripts. Each calls the program by the path that was typed, so it works for every ./db, and lets the shell complete
 * files if the program returns no candidates.
 */

const BASH = `# bash completion for ./db: eval "$(./db completion bash)"
_sectorwars_db() {
	local IFS=$'\\n' line words=("\${COMP_WORDS[@]:1:COMP_CWORD}")
	local program="\${COMP_WORDS[0]/#\\~/$HOME}"
	COMPREPLY=()
	while read -r line; do
		[[ -n $line ]] && COMPREPLY+=("\${line%%$'\\t'*}")
	done < <("$program" complete -- "\${words[@]}" 2>/dev/null)
}
complete -o default -F _sectorwars_db db
`;

const ZSH = `#compdef db
# zsh completion for ./db: source <(./db completion zsh)
_sectorwars_db() {
	local line
	local -a candidates
	for line in "\${(@f)$("\${(Q)words[1]/#\\~/$HOME}" complete -- "\${(@Q)words[2,CURRENT]}" 2>/dev/null)}"; do
		[[ -n $line ]] && candidates+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}")
	done
	if (( \${#candidates} )); then _describe -V 'db' candidates; else _files; fi
}
compdef _sectorwars_db db
`;

const FISH = `# fish completion for ./db: ./db completion fish | source
function __sectorwars_db
	set -l words (commandline -opc) (commandline -ct)
	set -l program (string replace -r '^~' $HOME -- $words[1])
	set -l candidates ($program complete -- $words[2..] 2>/dev/null)
	if test (count $candidates) -gt 0
		printf '%s\\n' $candidates
	else
		__fish_complete_path (commandline -ct)
	end
end
complete -c db -f -a '(__sectorwars_db)'
`;

/** The scripts by the name of the shell. */
export const COMPLETION_SCRIPTS = { bash: BASH, zsh: ZSH, fish: FISH };
