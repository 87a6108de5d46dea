. ./handler.sh

answer() { echo "{\"id\":$id,\"success\":true,\"data\":{\"ran\":\"$id.$attempt\"}}"; }
snooze() { echo "{\"id\":$id,\"success\":true,\"data\":{\"ran\":\"$id.$attempt\"},\"not_before\":\"$until\"}"; }
progress() { echo "{\"id\":$id,\"progress\":$1}"; }
fail() {
    type=$1
    [ "$type" != envelope ] || type=odd
    echo "{\"id\":$id,\"success\":false,\"error\":\"$type at attempt $attempt\",\"error_type\":\"$type\"}"
}

while read -r line; do
    id=${line#*'"id":'}
    attempt=${line#*'"attempt":'}
    work "$line" "${id%%[!0-9]*}" "${attempt%%[!0-9]*}"
done
