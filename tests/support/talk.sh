# How a shell script works one task after another: it reads a task, and answers it with some data.
next() { read -r line || exit 0; id=${line#*:}; id=${id%%,*}; }
answer() { echo "{\"id\":$id,\"success\":true,\"data\":$1}"; }
