# rankrl with vLLM for machines with NVIDIA GPUs (a driver for CUDA 13: 580 or newer). Nobody has built this yet: where
# rankrl is developed there is no container engine. What it installs is what `make resolve-vllm` checks, and the extras
# of all recipes.
#
#   docker build -t rankrl .
#   docker run --gpus all --ipc=host -v "$PWD/data:/rankrl/data" -v "$PWD/runs:/rankrl/runs" rankrl \
#       accelerate launch --config_file accelerate_configs/single_gpu.yaml recipes/rank_grpo.py --config ...
#
# --ipc=host: the processes of several GPUs exchange data through shared memory.
ARG CUDA=13.0.1
# With the compiler: vLLM and DeepSpeed compile some kernels on first use.
FROM nvidia/cuda:${CUDA}-devel-ubuntu24.04

RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-dev python3-venv git \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/rankrl
ENV PATH=/opt/rankrl/bin:$PATH HF_HOME=/rankrl/runs/huggingface

WORKDIR /rankrl
COPY pyproject.toml constraints-vllm.txt README.md LICENSE ./
COPY catalog catalog
COPY rankrl rankrl
RUN pip install --no-cache-dir -c constraints-vllm.txt -e ".[train,vllm,deepspeed,qlora,report,teacher,embeddings]"
COPY accelerate_configs accelerate_configs
COPY recipes recipes
