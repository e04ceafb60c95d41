"""`mim test` without mim: python tools/test.py CONFIG CHECKPOINT [arguments of the host's test.py]."""

from mmmaskformer.apis.scripts import run_host_script

if __name__ == '__main__':
    run_host_script('test.py')
