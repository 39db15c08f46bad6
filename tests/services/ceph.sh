#!/bin/bash
# A real Ceph S3 gateway for the tests: one monitor, one in-memory object store, one gateway, all on 127.0.0.1.
#
#   ceph.sh start FOLDER [PORT]   http on PORT (7480), https on PORT+1, http with the token
#                                 service (AssumeRole) on PORT+2; writes FOLDER/env for CEPH_ENV
#   ceph.sh stop FOLDER
#
# Needs Debian's radosgw, ceph-mon, ceph-osd and ceph-common, and root to install them only.
set -euo pipefail
export LC_ALL=C

stop() {
  local folder=$1 daemon
  for daemon in sts rgw osd mon; do
    [ -f "$folder/$daemon.pid" ] && kill "$(cat "$folder/$daemon.pid")" 2>/dev/null || true
  done
  for daemon in sts rgw osd mon; do
    [ -f "$folder/$daemon.pid" ] || continue
    for _ in $(seq 100); do kill -0 "$(cat "$folder/$daemon.pid")" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$(cat "$folder/$daemon.pid")" 2>/dev/null || true
  done
}

give_up() {
  echo "$1 did not come up. The ends of what the daemons wrote:" >&2
  tail -n 15 "$folder"/*.log "$folder"/*.out >&2 || true
  stop "$folder"
  exit 1
}

wait_for() {
  local what=$1 end=$((SECONDS + 120))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || give_up "$what"
    sleep 0.1
  done
}

# gateway NAME PORT [OPTION…]: a gateway with these options, once it answers on the port. Two gateways that prepare their
# pools at the same time now and then crash, so one that ended is started again.
gateway() {
  local name=$1 port=$2 end
  shift 2
  for _ in 1 2 3; do
    nohup radosgw -c "$folder/ceph.conf" -n client.rgw -f "$@" >>"$folder/$name.out" 2>&1 &
    echo $! >"$folder/$name.pid"
    end=$((SECONDS + 60))
    while kill -0 $! 2>/dev/null && [ $SECONDS -lt $end ]; do
      if curl -sf -m 10 -o /dev/null "http://127.0.0.1:$port/"; then
        sleep 1
        kill -0 $! 2>/dev/null && return
      fi
      sleep 0.1
    done
    kill -9 $! 2>/dev/null || true
  done
  give_up "The gateway $name"
}

start() {
  folder=$1
  local port=$2 fsid osd conf=$1/ceph.conf
  rm -rf "$folder"/{mon,osd,keyring}
  mkdir -p "$folder"/{mon,osd/0}
  folder=$(cd "$folder" && pwd)
  conf=$folder/ceph.conf
  fsid=$(cat /proc/sys/kernel/random/uuid)
  osd=$(cat /proc/sys/kernel/random/uuid)
  openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=localhost \
    -addext "subjectAltName=DNS:localhost,DNS:*.s3.localhost,IP:127.0.0.1" \
    -keyout "$folder/tls.key" -out "$folder/tls.crt" 2>/dev/null
  cat >"$conf" <<CONF
[global]
fsid = $fsid
mon host = v2:127.0.0.1:$((port + 100))
public addr = 127.0.0.1
cluster addr = 127.0.0.1
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 2000
mon data avail warn = 1
mon data avail crit = 1
auth allow insecure global id reclaim = false
keyring = $folder/keyring
run dir = $folder
admin socket = $folder/\$name.asok
crash dir = $folder
log file = $folder/\$name.log
log to syslog = false
[mon]
mon data = $folder/mon/\$id
mon initial members = a
mon cluster log file = $folder/cluster.log
paxos propose interval = 0.05
paxos min wait = 0.02
[osd]
osd data = $folder/osd/\$id
osd objectstore = memstore
memstore device bytes = 8589934592
osd class load list = *
osd class default list = *
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:$port ssl_endpoint=127.0.0.1:$((port + 1)) ssl_certificate=$folder/tls.crt ssl_private_key=$folder/tls.key
rgw dns name = s3.localhost
rgw crypt require ssl = false
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = test-key=$(head -c 32 /dev/zero | tr '\0' k | base64)
rgw run sync thread = false
CONF
  ceph-authtool "$folder/keyring" --create-keyring --gen-key -n mon. --cap mon 'allow *' >/dev/null
  for name in client.admin client.rgw osd.0; do
    ceph-authtool "$folder/keyring" --gen-key -n "$name" --cap mon 'allow *' --cap osd 'allow *' >/dev/null
  done
  ceph-mon -c "$conf" --mkfs -i a --fsid "$fsid" --public-addr "v2:127.0.0.1:$((port + 100))" >/dev/null 2>>"$folder/boot.log"
  nohup ceph-mon -c "$conf" -i a -f --public-addr "v2:127.0.0.1:$((port + 100))" >"$folder/mon.out" 2>&1 &
  echo $! >"$folder/mon.pid"
  wait_for "The monitor" timeout 20 ceph -c "$conf" osd new "$osd"
  ceph-osd -c "$conf" -i 0 --mkfs --osd-uuid "$osd" >/dev/null 2>>"$folder/boot.log"
  nohup ceph-osd -c "$conf" -i 0 -f >"$folder/osd.out" 2>&1 &
  echo $! >"$folder/osd.pid"
  wait_for "The object store" sh -c "ceph -c '$conf' osd stat | grep -q '1 up'"
  gateway rgw "$port"
  # One more gateway with the token service: it makes the first one's answer to a wrong secret another.
  gateway sts $((port + 2)) --rgw-frontends "beast endpoint=127.0.0.1:$((port + 2))" --rgw-s3-auth-use-sts true \
    --rgw-sts-key the-key-of-tests --admin-socket "$folder/sts.asok" --log-file "$folder/sts.log"
  for name in owner writer; do
    radosgw-admin -c "$conf" -n client.rgw user create --uid=$name --display-name=$name \
      --access-key="CEPH${name^^}000000001" --secret-key="ceph-secret-of-the-$name-0000000000000001" \
      >/dev/null 2>>"$folder/boot.log"
  done
  radosgw-admin -c "$conf" -n client.rgw role create --role-name=archive --assume-role-policy-doc='{"Version":"2012-10-17",
    "Statement":[{"Effect":"Allow","Principal":{"AWS":["arn:aws:iam:::user/writer"]},"Action":["sts:AssumeRole"]}]}' \
    >/dev/null 2>>"$folder/boot.log"
  radosgw-admin -c "$conf" -n client.rgw role-policy put --role-name=archive --policy-name=write --policy-doc='{"Version":
    "2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:PutObject"],"Resource":"arn:aws:s3:::*"}]}' \
    >/dev/null 2>>"$folder/boot.log"
  cat >"$folder/env" <<ENV
S3_ENDPOINT=http://127.0.0.1:$port
S3_ENDPOINT_TLS=https://127.0.0.1:$((port + 1))
S3_CA=$folder/tls.crt
S3_REGION=default
S3_ACCESS_KEY=CEPHOWNER000000001
S3_SECRET_KEY=ceph-secret-of-the-owner-0000000000000001
W_AK=CEPHWRITER000000001
W_SK=ceph-secret-of-the-writer-0000000000000001
W_ARN=arn:aws:iam:::user/writer
S3_ENDPOINT_STS=http://127.0.0.1:$((port + 2))
ROLE_ARN=arn:aws:iam:::role/archive
CEPH_CONF=$conf
ENV
  echo "Ceph RGW answers on http://127.0.0.1:$port and https://127.0.0.1:$((port + 1)); CEPH_ENV=$folder/env"
}

case ${1:-} in
  start) start "${2:?folder}" "${3:-7480}" ;;
  stop) stop "${2:?folder}" ;;
  *) sed -n '2,8p' "$0" >&2; exit 2 ;;
esac
