#!/bin/sh
# A SLURM cluster of two nodes on this one machine, to try the workflow before a real cluster.
#
#   sudo sh workflow/one_machine_slurm.sh start        needs Debian's slurm-wlm and munge
#   sudo sh workflow/one_machine_slurm.sh kill node2   the node and its jobs die without a word
#   sudo sh workflow/one_machine_slurm.sh stop
#
# It installs nothing. It writes /etc/slurm/slurm.conf, where SLURM's tools look for it, and
# refuses to touch one that it has not written. All else goes to /var/tmp/one-machine-slurm.
set -eu

CONFIGURATION=/etc/slurm/slurm.conf
MARK="# Written by one_machine_slurm.sh"
STATE=/var/tmp/one-machine-slurm
NODES="node1 node2"

say() {
    echo "one_machine_slurm.sh: $*" >&2
}

check() {
    [ "$(id -u)" = 0 ] || { say "SLURM's daemons are started by root: use sudo"; exit 2; }
    for tool in munged slurmctld slurmd; do
        command -v "$tool" > /dev/null || {
            say "$tool is missing: apt-get install slurm-wlm munge"; exit 2; }
    done
    if [ -e "$CONFIGURATION" ] && ! grep -qF "$MARK" "$CONFIGURATION"; then
        say "$CONFIGURATION belongs to another cluster: this machine has a SLURM of its own"
        exit 2
    fi
}

# Half of the processors and of the memory a node. A node that is silent for 20 s counts as down.
configure() {
    cpus=$(( ($(nproc) + 1) / 2 ))
    memory=$(awk '/^MemTotal/ { print int($2 / 1024 * 0.45) }' /proc/meminfo)
    cat > "$CONFIGURATION" <<END
$MARK
ClusterName=onemachine
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
StateSaveLocation=$STATE/controller
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdSpoolDir=$STATE/%n
SlurmdPidFile=$STATE/%n.pid
SlurmdLogFile=$STATE/%n.log
SlurmdTimeout=20
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
NodeName=node1 NodeAddr=127.0.0.1 NodeHostname=$(hostname) Port=17001 CPUs=$cpus RealMemory=$memory
NodeName=node2 NodeAddr=127.0.0.1 NodeHostname=$(hostname) Port=17002 CPUs=$cpus RealMemory=$memory
PartitionName=main Nodes=node[1-2] Default=YES MaxTime=INFINITE State=UP
END
}

runs() {
    [ -f "$STATE/$1.pid" ] && kill -0 "$(cat "$STATE/$1.pid")" 2> /dev/null
}

start() {
    check
    mkdir -p "$STATE/controller" $(printf "$STATE/%s " $NODES) /etc/slurm /run/munge
    chown munge: /run/munge
    configure
    if ! munge -n > /dev/null 2>&1; then
        su munge -s /bin/sh -c munged
        cp /run/munge/munged.pid "$STATE/munged.pid"
    fi
    runs slurmctld || slurmctld
    for node in $NODES; do
        runs "$node" || slurmd -N "$node"
    done
    for attempt in 1 2 3 4 5 6 7 8 9 10; do
        [ "$(sinfo -h -N -t idle,alloc,mixed -o %N | sort -u | wc -l)" = 2 ] && { sinfo; return; }
        sleep 1
    done
    sinfo
    say "not all nodes came up: see $STATE/*.log"
    exit 1
}

# SLURM's own process of each step of a node's jobs; the spool folder has a socket for each.
steps_of() {
    for socket in "$STATE/$1/$1_"*.*; do
        job=${socket##*_}
        pgrep -f "^slurmstepd: \[${job%%.*}\\." || true
    done
}

# A process and what it started, and so on.
tree_of() {
    for process in "$@"; do
        echo "$process"
        tree_of $(ps -o pid= --ppid "$process")
    done
}

# The node first, or it would start the next job meanwhile.
kill_node() {
    case " $NODES " in *" $1 "*) ;; *) say "'$1' is no node: give node1 or node2"; exit 2 ;; esac
    if runs "$1"; then kill -KILL "$(cat "$STATE/$1.pid")"; fi
    kill -KILL $(tree_of $(steps_of "$1")) 2> /dev/null || true
    rm -f "$STATE/$1/$1_"*.*
}

stop() {
    [ -f "$STATE/slurmctld.pid" ] || { say "it does not run"; exit 2; }
    for node in $NODES; do
        kill_node "$node"
    done
    for file in "$STATE"/*.pid; do
        kill "$(cat "$file")" 2> /dev/null || true
    done
    sleep 1
    rm -rf "$STATE" "$CONFIGURATION"
}

case "${1:-}" in
    start) start ;;
    kill) kill_node "${2:-}"; say "$2 is dead; start brings it back" ;;
    stop) stop ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
