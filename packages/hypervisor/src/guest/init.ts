// The guest's init: two busybox shell scripts. The first loads drivers and mounts the disk. The second is
// process 1: it starts the workload, reports on the status channel which ports listen and how the workload
// ended, reacts to the power button, and powers off. A fork costs milliseconds without KVM, so the scripts
// use shell builtins where they can.

/** Part of the key under which the initramfs is cached. */
export const GUEST_INIT_VERSION = 2;

/** `/init` of the initramfs. Mounts by the two tables below. */
export const STAGE_ONE = `#!/bin/busybox sh
B=/bin/busybox
$B mount -a -T /etc/fstab.1
fail() { echo "formation-init: $*"; $B sleep 1; $B poweroff -f; }
$B modprobe -a $($B cat /etc/modules.boot) || fail "the drivers cannot be loaded"
n=0; while [ ! -b /dev/vda ] && [ $n -lt 500 ]; do $B usleep 10000; n=$((n+1)); done
$B mount -t ext4 -o noatime /dev/vda /mnt || fail "the disk cannot be mounted"
cd /mnt
for d in dev proc sys run tmp etc; do
  [ -d $d ] && continue
  $B rm -f $d; $B mkdir -p $d; [ $d = tmp ] && $B chmod 1777 tmp
done
$B mount -t tmpfs -o mode=755,nosuid,nodev run /new
for f in run/* run/.[!.]*; do [ -e "$f" ] && { $B cp -a run/. /new/; break; }; done
$B cp -a /fm /new/.formation
$B mkdir -p /dev/pts /dev/shm
$B mount -a -T /etc/fstab.2
exec $B switch_root /mnt /run/.formation/busybox sh /run/.formation/init2
`;

export const FSTAB_ONE = `dev /dev devtmpfs nosuid 0 0
proc /proc proc nosuid,nodev,noexec 0 0
sys /sys sysfs nosuid,nodev,noexec 0 0
`;

export const FSTAB_TWO = `devpts /dev/pts devpts gid=5,mode=620,ptmxmode=666,nosuid,noexec 0 0
shm /dev/shm tmpfs nosuid,nodev 0 0
/new /mnt/run none move 0 0
/dev /mnt/dev none move 0 0
/proc /mnt/proc none move 0 0
/sys /mnt/sys none move 0 0
`;

/** Process 1 of the guest. It reads `config` and `run`, which `guestConfig` makes for each machine. */
export const STAGE_TWO = `F=/run/.formation; B=$F/busybox
. $F/config
OUT=; ERR=; ST=; n=0
while [ -z "$OUT" -o -z "$ERR" -o -z "$ST" ] && [ $n -lt 300 ]; do
  for p in /sys/class/virtio-ports/*; do
    [ -e $p/name ] || continue
    read -r name < $p/name; d=/dev/\${p##*/}; [ -c $d ] || continue
    case $name in fm.out) OUT=$d;; fm.err) ERR=$d;; fm.status) ST=$d;; esac
  done
  [ -n "$OUT" -a -n "$ERR" -a -n "$ST" ] || { $B usleep 10000; n=$((n+1)); }
done
exec 3>\${ST:-/dev/console}
st() { read -r U _ </proc/uptime; echo "{\\"up\\":$U,$1}" >&3; }
problem() { st "\\"ev\\":\\"problem\\",\\"what\\":\\"$1\\""; }

[ -e /dev/fd ] || $B ln -s /proc/self/fd /dev/fd
[ -e /dev/stdin ] || $B ln -s /proc/self/fd/0 /dev/stdin
[ -e /dev/stdout ] || $B ln -s /proc/self/fd/1 /dev/stdout
[ -e /dev/stderr ] || $B ln -s /proc/self/fd/2 /dev/stderr
echo "$FM_HOST" > /proc/sys/kernel/hostname
put() { [ -L "$1" -o ! -f "$1" ] && $B rm -rf "$1"; echo "$2" > "$1"; }
put /etc/hostname "$FM_HOST"
put /etc/hosts "127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
10.0.2.15 $FM_HOST"
$B ifconfig lo 127.0.0.1 up
$B ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
if [ -n "$FM_EGRESS" ]; then
  $B route add default gw 10.0.2.2
  put /etc/resolv.conf "nameserver 10.0.2.3"
fi
ulimit -n 65536

$B mkfifo $F/tick $F/out $F/err
exec 9<>$F/tick
( trap '' TERM INT HUP; exec 3>&- 9>&-; exec $B cat <$F/out >\${OUT:-/dev/console} ) & COUT=$!
( trap '' TERM INT HUP; exec 3>&- 9>&-; exec $B cat <$F/err >\${ERR:-/dev/console} ) & CERR=$!

# Looks the user up in the image's passwd and group. With a group given there are no supplementary ones.
lookup() {
  U=\${FM_USER%%:*}; G=; case $FM_USER in *:*) G=\${FM_USER#*:};; esac
  [ -n "$U" ] || U=0
  NUID=; NGID=; NHOME=/; NNAME=; SUPP=
  [ -r /etc/passwd ] && while IFS=: read -r n _ u g _ h _ || [ -n "$n" ]; do
    [ "$n" = "$U" -o "$u" = "$U" ] && { NNAME=$n; NUID=$u; NGID=$g; NHOME=\${h:-/}; break; }
  done </etc/passwd
  if [ -z "$NUID" ]; then
    case $U in *[!0-9]*) problem no_user; exit 125;; esac
    NUID=$U; NGID=0
    [ "$U" = 0 ] && NHOME=/root
  fi
  if [ -n "$G" ]; then
    NGID=; [ -r /etc/group ] && while IFS=: read -r n _ g _ || [ -n "$n" ]; do
      [ "$n" = "$G" -o "$g" = "$G" ] && { NGID=$g; break; }
    done </etc/group
    if [ -z "$NGID" ]; then
      case $G in *[!0-9]*) problem no_group; exit 125;; esac
      NGID=$G
    fi
  elif [ -n "$NNAME" -a -r /etc/group ]; then
    while IFS=: read -r n _ g m || [ -n "$n" ]; do
      case ",$m," in *",$NNAME,"*) SUPP=1; break;; esac
    done </etc/group
  fi
}
# Finds the program as execvp(3) would, to report what is wrong.
find_exe() {
  EXE=
  case $FM_ARGV0 in
  */*) EXE=$FM_ARGV0;;
  *) IFS=:; for d in $FM_PATH; do
      [ -f "\${d:-.}/$FM_ARGV0" -a -x "\${d:-.}/$FM_ARGV0" ] && { EXE=\${d:-.}/$FM_ARGV0; break; }
    done; unset IFS;;
  esac
  [ -n "$EXE" -a -e "$EXE" ] || { problem not_found; exit 127; }
  [ -f "$EXE" -a -x "$EXE" ] || { problem not_executable; exit 126; }
}
child() {
  trap - TERM INT QUIT HUP
  lookup
  [ "$NUID:$NGID" = 0:0 ] || $B chown $NUID:$NGID $F/out $F/err
  [ -d "$FM_WORKDIR" ] || { problem no_workdir; exit 125; }
  cd "$FM_WORKDIR" || { problem no_workdir; exit 125; }
  find_exe
  exec 3>&- 9>&-
  DROP=; CHUID=
  if [ -n "$SUPP" ]; then CHUID="-c $NNAME:$NGID"
  elif [ "$NUID:$NGID" != 0:0 ]; then DROP="$B nsenter -S $NUID -G $NGID"; fi
  . $F/run
}
# Reported before the start: a workload that crashes the kernel at once counts as started, too.
st '"ev":"started"'
( child ) >$F/out 2>$F/err </dev/null &
P=$!; STOP=
on_power() {
  HIT=1
  read -r U _ </proc/uptime; U=\${U%.*}
  if [ -z "$STOP" ]; then
    STOP=$U; st '"ev":"stopping"'; kill -TERM $P
  elif [ $((U-STOP)) -ge 1 ]; then
    kill -KILL -$P; kill -KILL $P
  fi 2>/dev/null
}
trap on_power TERM

# /proc/net/tcp lists state 0A (listening) first. The host cannot reach ports on 127/8 and ::1.
scan() {
  [ -r $1 ] || return
  { read -r _
    while read -r _ a _ s _; do
      [ "$s" = 0A ] || break
      case $FM_HEX in *" \${a##*:} "*) ;; *) continue;; esac
      case \${a%:*} in ??????7F|00000000000000000000000001000000|0000000000000000FFFF0000??????7F) LO="$LO \${a##*:}";; *) UP="$UP \${a##*:}";; esac
    done; } <$1
}
( trap - TERM; exec 3>&3; SEEN=; n=0; pace=0.05
  [ -n "$FM_HEX" ] || exit 0
  while :; do
    UP=; LO=; scan /proc/net/tcp; scan /proc/net/tcp6
    [ "$UP|$LO" = "$SEEN" ] || { SEEN="$UP|$LO"; st "\\"ev\\":\\"listen\\",\\"ports\\":\\"$UP\\",\\"loopback\\":\\"$LO\\""; }
    n=$((n+1)); case $n in 100) pace=0.25;; 400) pace=1;; esac
    read -t $pace _ <&9
  done ) & WATCH=$!

# Turns an event of the power button into a signal for process 1.
( trap - TERM; exec 3>&- 9>&-; for m in $($B cat $F/modules.late); do $B insmod $F/m/$m; done 2>/dev/null
  n=0; while [ ! -e /dev/input/event0 ] && [ $n -lt 250 ]; do $B usleep 20000; n=$((n+1)); done
  exec 8</dev/input/event0
  while $B dd bs=24 count=4 of=/dev/null <&8 2>/dev/null; do kill -TERM 1; done ) & POWER=$!

# A signal interrupts wait: its code is not the workload's then. A second wait for one end gives 127.
old=; while :; do HIT=; wait $P; rc=$?; [ $rc = 127 ] && rc=\${old:-127}; [ -n "$HIT" ] || break; old=$rc; done
trap '' TERM
kill -KILL $WATCH $POWER 2>/dev/null
st "\\"ev\\":\\"exit\\",\\"code\\":$rc"
rest() { for p in /proc/[0-9]*; do p=\${p#/proc/}; case $p in 1|$COUT|$CERR) ;; *) kill -$1 $p 2>/dev/null;; esac; done; }
piping() { kill -0 $COUT 2>/dev/null || kill -0 $CERR 2>/dev/null; }
drain() { n=0; while piping && [ $n -lt $1 ]; do $B usleep 20000; n=$((n+1)); done; }
drain 3
piping && { rest TERM; drain 25; }
piping && { rest KILL; drain 25; }
$B sync; $B mount -o remount,ro / 2>/dev/null
exec $B poweroff -f
`;
