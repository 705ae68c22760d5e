#!/usr/bin/env bash
# A private SLURM of two nodes on this machine, for tests: as root, with Debian's packages slurm-wlm and munge.
#
#     tests/slurm/cluster.sh start /tmp/cluster; export SLURM_CONF=/tmp/cluster/slurm.conf; sinfo
#     tests/slurm/cluster.sh stop /tmp/cluster
#
# Everything lies in the folder, every port is bound to 127.0.0.1; the system's own SLURM and MUNGE are left alone.
set -euo pipefail
[[ $# = 2 && $1 =~ ^(start|stop)$ ]] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$2"
folder=$(cd "$2" && pwd)
export SLURM_CONF=$folder/slurm.conf
daemons="munged slurmctld one two"

start() {
    mkdir "$folder"/{state,one,two,munge}
    chmod 711 "$folder" "$folder/munge" # munged insists that everybody can reach its socket
    (umask 077 && head -c 1024 /dev/urandom >"$folder/munge/key")
    configure "$(hostname -s)" >"$SLURM_CONF"
    begin munged munged --foreground --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
        --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"
    wait_until "munged answers" munge --no-input --socket="$folder/munge/socket"
    begin slurmctld slurmctld -D -f "$SLURM_CONF"
    begin one slurmd -D -N one -f "$SLURM_CONF"
    begin two slurmd -D -N two -f "$SLURM_CONF"
    wait_until "both nodes are idle" both_idle
}

stop() {
    scancel --quiet --user="$(id -un)" || true
    wait_until "all jobs are gone" no_jobs || true
    for daemon in two one slurmctld munged; do
        alive $daemon && kill "$(cat "$folder/$daemon.pid")"
    done
    wait_until "all daemons are gone" none_alive
}

configure() { # a host's name. cred_expire: how long a requeued job waits (5 seconds at least; 120 if left out)
    cat <<CONF
ClusterName=test
SlurmctldHost=$1(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$folder/state
SlurmctldPidFile=$folder/state/slurmctld.pid
SlurmdSpoolDir=$folder/%n
SlurmdPidFile=$folder/%n/slurmd.pid
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
KillWait=5
OverTimeLimit=0
JobRequeue=1
SlurmdParameters=config_overrides
NodeName=one NodeHostname=$1 NodeAddr=127.0.0.1 Port=$(free_port) CPUs=2
NodeName=two NodeHostname=$1 NodeAddr=127.0.0.1 Port=$(free_port) CPUs=2
PartitionName=all Nodes=one,two Default=YES State=UP
CONF
}

begin() { # a daemon's name, its command
    setsid "${@:2}" >>"$folder/$1.log" 2>&1 </dev/null &
    echo $! >"$folder/$1.pid"
}

wait_until() { # what is waited for, the command that tells
    for _ in $(seq 150); do
        "${@:2}" >/dev/null 2>&1 && return
        sleep 0.1
    done
    echo "error: it does not come that $1" >&2
    tail -n 5 "$folder"/*.log >&2
    return 1
}

both_idle() { [ "$(sinfo -h -N -o %T | sort | uniq -c | tr -d ' ')" = 2idle ]; }
no_jobs() { local jobs && jobs=$(squeue -h) && [ -z "$jobs" ]; }
none_alive() { for daemon in $daemons; do ! alive $daemon || return; done; }
alive() { grep -qs "$folder" "/proc/$(cat "$folder/$1.pid")/cmdline"; } # and that process is ours
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

"$1"
