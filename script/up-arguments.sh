# Reads the arguments of script/up: sets $stack (empty: the selected one), and leaves the arguments for Pulumi in "$@".
# Expects script/lib.sh.
# shellcheck shell=sh

# shellcheck disable=SC2034  # script/up uses it
stack=
# Each argument is processed once. Arguments for Pulumi are appended again at the end.
left=$#
before=
while [ "$left" -gt 0 ]; do
	argument=$1
	shift
	left=$((left - 1))
	case $before$argument in
	# A word that follows a flag may be its value.
	[!-]*)
		fail "'$argument' is not an option. If you mean the stack $argument, run: script/up --stack $argument"
		;;
	esac
	case $argument in
	-*=* | -y | --yes | -f | --skip-preview | --diff | -r | --refresh | -j | --json | --expect-no-changes) before= ;;
	-*) before=- ;;
	*) before= ;;
	esac
	case $argument in
	-h | --help)
		sed -n '2,/^set /p' "$0" | sed 's/^# \{0,1\}//; /^set /d'
		exit 0
		;;
	--stack | -s)
		[ "$left" -gt 0 ] || fail "--stack needs a name, for example: script/up --stack dev"
		stack=$1
		shift
		left=$((left - 1))
		before=
		;;
	--stack=*) stack=${argument#--stack=} ;;
	*) set -- "$@" "$argument" ;;
	esac
done
