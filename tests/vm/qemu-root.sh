#!/usr/bin/env bash
# Makes what a machine with a kernel of its own boots from:   tests/vm/qemu-root.sh DIR
#   DIR/disk      Debian with Docker and Google's guest agent, an ext4 image
#   DIR/vmlinuz   Debian's kernel for clouds, whose modules are on the disk
#   DIR/initrd    `qemu-init` and the modules that it takes to reach the disk
# Takes a minute, root, and Debian's packages from the network. What is there already stays.
set -euo pipefail
[ $# = 1 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
third_party=$here/../../target/third-party
mkdir -p "$1"
cd "$1"
exec 9>.lock
flock 9 # two test runs at once
if [ disk -nt "$here/qemu-init" ] && [ disk -nt "$here/qemu-root.sh" ]; then exit 0; fi
made=$(mktemp -d)
trap 'rm -rf --one-file-system "$made"' EXIT

# The kernel is unpacked and not installed: that would make an initrd which knows all hardware there is.
# shellcheck disable=SC2016 # $1 is the root, for mmdebstrap to fill in
timeout 900 mmdebstrap --quiet --mode=root --variant=minbase \
    --include=systemd,systemd-sysv,udev,dbus,kmod,procps,apparmor,ca-certificates,curl,iproute2,docker.io,iptables,google-guest-agent \
    --customize-hook='chroot "$1" sh -ec "cd /tmp; apt-get download -qq \$(apt-cache depends linux-image-cloud-amd64 | sed -n \"s/ *Depends: //p\")"' \
    --customize-hook='dpkg-deb --fsys-tarfile "$1"/tmp/linux-image-*.deb | tar -x -C "$1" --keep-directory-symlink; rm "$1"/tmp/*.deb' \
    --customize-hook='chroot "$1" sh -ec "depmod \$(ls /lib/modules); systemctl enable --quiet systemd-networkd.service"' \
    bookworm "$made/root"
root=$made/root
printf '[Match]\nDriver=virtio_net\n[Network]\nDHCP=yes\n' >"$root/etc/systemd/network/vm.network"
cp "$third_party/busybox.tar" "$root/busybox.tar"

mkdir -p "$made"/initrd/{bin,dev,proc,root,given,modules}
cp "$here/qemu-init" "$made/initrd/init"
cp "$third_party/busybox" "$made/initrd/bin/busybox"
version=$(ls "$root/lib/modules")
for module in virtio_pci virtio_blk virtiofs; do
    chroot "$root" modprobe --set-version "$version" --show-depends $module
done | awk '$1 == "insmod" && !seen[$2]++ {print $2}' | while read -r module; do
    cp "$root/$module" "$made/initrd/modules/"
    basename "$module" >>"$made/initrd/modules/order" # they are loaded one by one
done
(cd "$made/initrd" && find . | bin/busybox cpio -o -H newc 2>/dev/null) | gzip >initrd
mv "$root"/boot/vmlinuz-* vmlinuz
rm -f disk.new
truncate --size 3G disk.new # sparse
mkfs.ext4 -q -d "$root" disk.new
mv disk.new disk
