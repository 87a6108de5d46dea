# What a task does is in its params, a word for each attempt: {"n":1,"script":"connection ok"}. Only what the shell has built in, so
# that an attempt costs next to nothing. Each attempt leaves a line in `runs`.

work() {
    task=$1 id=$2 attempt=$3
    script=${task#*'"script":"'}
    script=${script%%'"'*}
    until=${task#*'"until":"'}
    until=${until%%'"'*}
    set -- $script
    left=$attempt
    while [ "$left" -gt 1 ] && [ $# -gt 1 ]; do
        shift
        left=$((left - 1))
    done
    echo "$id $attempt $1" >>runs
    case $1 in
        ok) answer ;;
        progress)
            progress 40
            progress 80
            answer
            ;;
        snooze) snooze ;;
        slow)
            sleep 0.15
            answer
            ;;
        long)
            sleep 3
            answer
            ;;
        crash) kill -SEGV $$ ;;
        timeout) exec sleep 60 ;;
        *) fail "$1" ;;
    esac
}
