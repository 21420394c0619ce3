#!/usr/bin/env bash
# Boots the real systemd as the first process of namespaces of its own, with nothing to start but torchd: as it is deployed, apart from the
# drop-ins that a test writes into /run/systemd/system/torchd.service.d. The root file system can only be read from there.
#
# machine.sh GROUP PROGRAMS EXAMPLES LIBTORCH: the name of a control group for it, and the folders with our programs, data and libraries.
# Needs root, and a systemd whose control groups we may use; exits with 77 where it cannot be.
set -eu
cannot() {
    echo "$1" >&2
    exit 77
}

if [ "$1" != inside ]; then
    [ -x /lib/systemd/systemd ] || cannot "there is no systemd"
    group=$1
    hierarchies=/sys/fs/cgroup
    [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || hierarchies="/sys/fs/cgroup/systemd /sys/fs/cgroup/unified"
    for hierarchy in $hierarchies; do
        mkdir "$hierarchy/$group" 2>/dev/null && echo $$ >"$hierarchy/$group/cgroup.procs" || cannot "no control group can be made"
    done
    shift
    exec unshare --pid --fork --kill-child --mount --cgroup --ipc --uts --mount-proc -- "$BASH" "$0" inside "$@"
fi

shift
programs=$1 examples=$2 libtorch=$3 unit=$(dirname "$0")/../../deploy/systemd/torchd.service
mount --make-rprivate /
# Nothing of this machine is changed from here on.
mount -o remount,bind,ro / || cannot "the root cannot be made read-only"
if touch / 2>/dev/null; then cannot "the root is still writable"; fi
mount -o remount,bind,ro /sys || cannot "/sys cannot be made read-only"
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys || cannot "/proc/sys cannot be made read-only"
mount -t tmpfs -o mode=755 tmpfs /run
for folder in programs examples libtorch; do
    mkdir "/run/$folder"
    mount --bind "${!folder}" "/run/$folder"
    mount -o remount,bind,ro "/run/$folder"
done
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
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=test SYSTEMD_UNIT_PATH=/run/systemd/system \
    /lib/systemd/systemd --system --unit=multi-user.target --log-target=console --show-status=no
