/* Preloaded before PyTorch: MKL asks this function whether the processor is Intel's, and takes its AVX2 path on any
 * other, also where AVX-512 is at hand. Answering yes gives the peer its best path. */
int mkl_serv_intel_cpu_true(void) { return 1; }
