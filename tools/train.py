"""`mim train` without mim: python tools/train.py CONFIG [arguments of the host's train.py]."""

from mmmaskformer.apis.scripts import run_host_script

if __name__ == '__main__':
    run_host_script('train.py')
