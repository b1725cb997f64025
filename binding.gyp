{
  # A mirror of CMakeLists.txt for node-gyp: CPU only.
  "variables": {
    "kernels": [
      "<!@(node -p \"require('fs').readFileSync('native/cpu/kernel_files.h', 'utf8').match(/^ +X.[a-z_]+/gm).map(line => 'native/cpu/' + line.trim().slice(2) + '.cc').join(' ')\")"
    ],
    "kernel_flags": ["-O3", "-Wno-psabi", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"],
    "avx2_flags": ["-mavx2", "-mfma"],
    "avx512_flags": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"]
  },
  "target_defaults": {
    "cflags_cc": ["-std=gnu++17", "-fvisibility=hidden", "-fPIC"],
    "cflags_cc!": ["-fno-exceptions", "-fno-rtti"],
    "xcode_settings": {
      "CLANG_CXX_LANGUAGE_STANDARD": "gnu++17",
      "GCC_ENABLE_CPP_EXCEPTIONS": "YES",
      "GCC_SYMBOLS_PRIVATE_EXTERN": "YES"
    }
  },
  "targets": [
    {
      "target_name": "kernels_base",
      "type": "static_library",
      "sources": ["<@(kernels)"],
      "defines": ["THROUGHTIME_ISA=base"],
      "cflags_cc": ["<@(kernel_flags)"],
      "xcode_settings": {"OTHER_CPLUSPLUSFLAGS": ["<@(kernel_flags)"]}
    },
    {
      "target_name": "throughtime",
      "dependencies": ["kernels_base"],
      "sources": [
        "native/addon.cc",
        "native/arrivals.cc",
        "native/buffers.cc",
        "native/cuda_library.cc",
        "native/device.cc",
        "native/engine.cc",
        "native/memory.cc",
        "native/queue.cc",
        "native/registry.cc",
        "native/threads.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_CPP_EXCEPTIONS"],
      "conditions": [
        ["target_arch=='x64'", {"dependencies": ["kernels_avx2", "kernels_avx512"]}],
        ["OS=='linux'", {"ldflags": ["-static-libstdc++", "-Wl,--exclude-libs,ALL", "-Wl,--gc-sections"]}]
      ]
    }
  ],
  "conditions": [
    ["target_arch=='x64'", {
      "targets": [
        {
          "target_name": "kernels_avx2",
          "type": "static_library",
          "sources": ["<@(kernels)"],
          "defines": ["THROUGHTIME_ISA=avx2"],
          "cflags_cc": ["<@(kernel_flags)", "<@(avx2_flags)"],
          "xcode_settings": {"OTHER_CPLUSPLUSFLAGS": ["<@(kernel_flags)", "<@(avx2_flags)"]}
        },
        {
          "target_name": "kernels_avx512",
          "type": "static_library",
          "sources": ["<@(kernels)"],
          "defines": ["THROUGHTIME_ISA=avx512"],
          "cflags_cc": ["<@(kernel_flags)", "<@(avx2_flags)", "<@(avx512_flags)"],
          "xcode_settings": {"OTHER_CPLUSPLUSFLAGS": ["<@(kernel_flags)", "<@(avx2_flags)", "<@(avx512_flags)"]}
        }
      ]
    }]
  ]
}
