#!/bin/sh
# A runner for tests on machines without GPUs: it says that CUDA works with $GPUS devices, and computes on the CPU what was ordered
# for CUDA. Everything else the real runner does. What CUDA would have seen is left in the job's folder, in the file `visible`.
real=$RUNNER
if [ "$1" = probe ]; then
    "$real" probe | sed -e "s/\"cuda_devices\":0/\"cuda_devices\":$GPUS/" -e 's/"has_cuda_half":false/"has_cuda_half":true/' \
        -e 's/"cuda":{"version":"","path":"","absent_reason":"[^"]*"/"cuda":{"version":"13.0","path":"","absent_reason":""/' \
        -e 's/"cuda_error":null/"cuda_error":0/'
    exit
fi
printf '%s' "$CUDA_VISIBLE_DEVICES" > "$3/visible"
sed -i 's/"device": "cuda"/"device": "cpu"/' "$3/attempts/$5.json"
exec "$real" "$@"
