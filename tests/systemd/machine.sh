#!/usr/bin/env bash
# Boots the real systemd as the first process of namespaces of its own, with nothing to start but torchd: as it is deployed, apart from the
# drop-ins that a test writes into /run/systemd/system/torchd.service.d. It sees a /dev, a network and control groups of its own, can only
# read the root file system, and lacks the capabilities that reach the kernel itself.
#
# machine.sh GROUP PROGRAMS EXAMPLES LIBTORCH: the name of a control group for it, which whoever calls removes, and the folders with our
# programs, data and libraries. Needs root, and a systemd whose control groups we may use; exits with 77 where it cannot be.
set -eu
cannot() {
    echo "$1" >&2
    exit 77
}
# Whatever is refused before systemd begins: the machine does not allow it.
trap 'cannot "line $LINENO of $0 failed"' ERR

# The control groups of one hierarchy that is all, or those of each.
hierarchies() {
    if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
        echo /sys/fs/cgroup
    else
        find /sys/fs/cgroup -mindepth 1 -maxdepth 1 -type d
    fi
}

if [ "$1" != inside ]; then
    [ -x /lib/systemd/systemd ] || cannot "there is no systemd"
    for hierarchy in $(hierarchies); do
        mkdir "$hierarchy/$1" 2>/dev/null || cannot "no control group can be made in $hierarchy"
        if [ -e "$hierarchy/cpuset.cpus" ]; then
            # A new one has none of either.
            for list in cpuset.cpus cpuset.mems; do cat "$hierarchy/$list" >"$hierarchy/$1/$list"; done
        fi
        echo $$ >"$hierarchy/$1/cgroup.procs"
    done
    shift
    unshare="unshare --pid --fork --kill-child --mount --cgroup --ipc --uts --net --mount-proc"
    $unshare true || cannot "no namespaces can be made"
    exec $unshare -- "$BASH" "$0" inside "$@"
fi

# Nowhere but there: what follows changes what everybody in the same namespaces sees.
[ $$ = 1 ] || cannot "not to be called like this"
shift
programs=$1 examples=$2 libtorch=$3 unit=$(dirname "$0")/../../deploy/systemd/torchd.service
mount --make-rprivate /
mount -o remount,bind,ro /
if touch / 2>/dev/null; then cannot "the root is still writable"; fi
mount -o remount,bind,ro /sys
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t tmpfs -o mode=755 tmpfs /run
for folder in programs examples libtorch; do
    mkdir "/run/$folder"
    mount --bind "${!folder}" "/run/$folder"
    mount -o remount,bind,ro "/run/$folder"
done
mkdir /run/dev
for device in null zero full random urandom tty; do
    touch "/run/dev/$device"
    mount --bind "/dev/$device" "/run/dev/$device"
done
mkdir /run/dev/shm /run/dev/pts
ln -s /proc/self/fd /run/dev/fd
mount --rbind /run/dev /dev
mount -t tmpfs tmpfs /dev/shm
mkdir -p /run/systemd/system/torchd.service.d
cp "$unit" /run/systemd/system/
# What every service wants to be there, with nothing in it: no unit of this machine is known.
for target in sysinit basic shutdown umount network multi-user; do
    printf '[Unit]\nDefaultDependencies=no\n' >"/run/systemd/system/$target.target"
done
for file in passwd group; do
    cp "/etc/$file" /run/
done
echo 'torchd:x:64990:64990::/:/usr/sbin/nologin' >>/run/passwd
echo 'torchd:x:64990:' >>/run/group
for file in passwd group; do
    mount --bind "/run/$file" "/etc/$file"
done
if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
else
    mount -t tmpfs tmpfs /sys/fs/cgroup
    mkdir /sys/fs/cgroup/systemd /sys/fs/cgroup/unified
    mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
    mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
fi
for folder in /tmp /var/lib /var/tmp /var/cache /var/log; do
    mount -t tmpfs tmpfs "$folder"
done
chmod 1777 /tmp /var/tmp
exec setpriv --bounding-set=-sys_module,-sys_time,-sys_boot,-sys_rawio,-sys_tty_config,-syslog \
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=test SYSTEMD_UNIT_PATH=/run/systemd/system \
    /lib/systemd/systemd --system --unit=multi-user.target --log-target=console --show-status=no
