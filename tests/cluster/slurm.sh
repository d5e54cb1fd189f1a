#!/usr/bin/env bash
# A SLURM of two nodes on this machine, for the tests: slurm.sh start|stop. Debian and Ubuntu, as root.
# Exit code 77: nothing could be installed or started, and the last line says why. An existing SLURM is left alone.
set -euo pipefail

MARK="# written by tests/cluster/slurm.sh; removed by its stop"
CONF=/etc/slurm
STATE=/var/tmp/wsi_kd_slurm
DAEMONS=(slurmctld slurmd.n1 slurmd.n2 munged) # munged only where start had to start it

give_up() {
  echo "slurm: $*" >&2
  exit 77
}

ours() { [ -f "$1" ] && head -n 1 "$1" | grep -qxF "$MARK"; }

install_slurm() {
  command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null && return
  [ "$(id -u)" -eq 0 ] || give_up "nothing could be installed: not root"
  command -v apt-get >/dev/null || give_up "nothing could be installed: no apt-get here"
  fetch || { timeout 300 apt-get update >/dev/null 2>&1 && fetch; } \
    || give_up "nothing could be installed: apt-get install slurm-wlm munge failed"
}

fetch() {
  DEBIAN_FRONTEND=noninteractive timeout 600 \
    apt-get install --yes --no-install-recommends slurm-wlm munge >/dev/null 2>&1
}

write_conf() {
  local file
  for file in slurm.conf gres.conf cgroup.conf; do
    [ ! -e "$CONF/$file" ] || ours "$CONF/$file" || give_up "$CONF/$file is another's: this machine has a SLURM of its own"
  done
  mkdir -p "$CONF" "$STATE"/{state,spool.n1,spool.n2,run,log}
  # Jobs fail where the conf lies elsewhere: SLURM_CONF does not reach their steps. config_overrides: the nodes may
  # claim memory that this machine does not have. MinJobAge: squeue must still see a job that has ended.
  cat > "$CONF/slurm.conf" <<CONF_END
$MARK
ClusterName=wsi_kd_tests
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,bf_interval=2,batch_sched_delay=0
ReturnToService=2
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
StateSaveLocation=$STATE/state
SlurmdSpoolDir=$STATE/spool.%n
SlurmctldPidFile=$STATE/run/slurmctld.pid
SlurmdPidFile=$STATE/run/slurmd.%n.pid
SlurmctldLogFile=$STATE/log/slurmctld.log
SlurmdLogFile=$STATE/log/slurmd.%n.log
SlurmctldPort=16817
SlurmdParameters=config_overrides
MinJobAge=7200
KillWait=5
GresTypes=gpu
NodeName=n1 NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=16821 CPUs=4 RealMemory=64000 State=UNKNOWN
NodeName=n2 NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=16822 CPUs=8 RealMemory=64000 Gres=gpu:2 State=UNKNOWN
PartitionName=cpu Nodes=n1 Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
PartitionName=gpu Nodes=n2 MaxTime=INFINITE State=UP OverSubscribe=NO
CONF_END
  # Cards that are none: SLURM hands out any file, and torch sees no GPU.
  printf '%s\n' "$MARK" "AutoDetect=off" "NodeName=n2 Name=gpu File=/dev/tty[0-1]" > "$CONF/gres.conf"
  printf '%s\n' "$MARK" "CgroupAutomount=no" > "$CONF/cgroup.conf"
}

start_munge() {
  munge --no-input >/dev/null 2>&1 && return
  install -d -o munge -g munge -m 0755 /run/munge
  [ -f /etc/munge/munge.key ] || give_up "munge has no key: /etc/munge/munge.key"
  su -s /bin/sh munge -c '/usr/sbin/munged --key-file=/etc/munge/munge.key' || give_up "munged does not start"
  cp /run/munge/munged.pid "$STATE/run/munged.pid"
}

start() {
  install_slurm
  [ "$(id -u)" -eq 0 ] || give_up "its daemons cannot be started: not root"
  write_conf
  start_munge
  running slurmctld || slurmctld -c
  running slurmd.n1 || slurmd -c -N n1
  running slurmd.n2 || slurmd -c -N n2
  local tries
  for tries in $(seq 60); do
    [ "$(sinfo --noheader --Node --states=idle --format=%N 2>/dev/null | sort -u | tr '\n' ' ')" = "n1 n2 " ] && return
    sleep 0.5
  done
  give_up "its nodes are not ready after 30 s: $(sinfo --noheader --Node --format='%N %T %E' 2>&1 | tr '\n' ';')"
}

# A daemon that has ended may stay listed until its parent asks for it; it runs no more.
running() { [ -f "$STATE/run/$1.pid" ] && grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$(cat "$STATE/run/$1.pid")/status" 2>/dev/null; }

stop() {
  ours "$CONF/slurm.conf" || return 0
  scancel --user=root --quiet 2>/dev/null || true
  local daemon tries
  for daemon in "${DAEMONS[@]}"; do
    running "$daemon" && kill "$(cat "$STATE/run/$daemon.pid")" || true
  done
  for tries in $(seq 60); do # slurmctld writes its state down before it ends
    running slurmctld || running slurmd.n1 || running slurmd.n2 || break
    sleep 0.5
  done
  rm -f "$CONF"/{slurm,gres,cgroup}.conf
  rm -rf "$STATE"
}

case "${1:-}" in
  start) start ;;
  stop) stop ;;
  *) echo "usage: slurm.sh start|stop" >&2; exit 2 ;;
esac
