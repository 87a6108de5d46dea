. ./handler.sh

answer() { echo "{\"ran\":\"$id.$attempt\"}"; }
snooze() { echo "{\"success\":true,\"data\":{\"ran\":\"$id.$attempt\"},\"not_before\":\"$until\"}"; }
progress() { echo "{\"progress\":$1}" >&3; }
fail() {
    echo "$1 at attempt $attempt" >&2
    case $1 in
        handler) exit 1 ;;
        validation) exit 65 ;;
        connection) exit 69 ;;
        temporary) exit 75 ;;
        configuration) exit 78 ;;
        envelope) echo "{\"success\":false,\"error\":\"odd at attempt $attempt\",\"error_type\":\"odd\",\"retryable\":false}" ;;
    esac
}

read -r line
work "$line" "$PRISMQ_TASK_ID" "$PRISMQ_ATTEMPT"
