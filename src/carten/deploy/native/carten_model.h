/* The C interface of a model compiled by `carten export`. Units: eV, Angstrom, e; those of inputs and readouts are stated.

   A library has no global state: states are independent of each other, and each belongs to one caller at a time.
   Functions that return int return 0, or 1 with a message in carten_error. Nothing is printed, nothing aborts. */
#ifndef CARTEN_MODEL_H
#define CARTEN_MODEL_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

#define CARTEN_INTERFACE 2
#define CARTEN_API __attribute__((visibility("default")))

/* A quantity of every atom that can be had beside its energy, such as charges or dipoles. */
typedef struct {
  const char *name, *unit;
  int32_t components; /* 3^rank numbers for each atom, row-major */
} carten_readout;

/* Something that the model is told besides the atoms, such as a total charge or a level of theory. */
typedef struct {
  const char *name, *unit;
  int32_t per_atom;       /* whether it has values for every atom, else for the structure */
  int32_t components;     /* 3^rank numbers */
  int32_t n_categories;   /* 0 for numbers; else values are positions among the categories that `header` lists */
  int32_t required;       /* whether there is no default */
} carten_input;

typedef struct {
  int32_t interface;      /* CARTEN_INTERFACE */
  int32_t scalar_bytes;   /* 4 or 8: the precision of features, and of what is exchanged */
  int32_t n_layers, n_elements, n_readouts, n_inputs;
  int32_t n_deviations;   /* of an ensemble whose members share a network, from the mean that is evaluated; else 0 */
  double cutoff;          /* Angstrom */
  const int32_t *numbers; /* atomic numbers, n_elements */
  const carten_readout *readouts;
  const carten_input *inputs;
  int64_t exchanged;      /* the most numbers that one ghost atom exchanges at once */
  const char *header;     /* JSON: network, properties, units, provenance */
} carten_info;

/* For hosts that divide space among processes. Arrays have n_all rows of width[p] floats or doubles each; rows n_own ..
   n_all belong to ghosts. `forward` fills these from the rows of their owners, `reverse` adds them to those. */
typedef struct {
  void *context;
  void (*forward)(void *context, int32_t n_parts, void *const *parts, const int64_t *width);
  void (*reverse)(void *context, int32_t n_parts, void *const *parts, const int64_t *width);
} carten_exchange;

typedef struct carten_state carten_state;

CARTEN_API const carten_info *carten_describe(void);
CARTEN_API carten_state *carten_create(void); /* NULL: no memory */
CARTEN_API void carten_destroy(carten_state *);
CARTEN_API const char *carten_error(const carten_state *);

/* The number of threads that evaluations use, 1 by default. They sleep in between. */
CARTEN_API int carten_threads(carten_state *, int32_t threads);

/* Values of an input, kept until they are set again: `rows` times its components; rows is 1, or n_all for one of atoms.
   NULL brings the default back. */
CARTEN_API int carten_set_input(carten_state *, const char *name, int64_t rows, const double *values);

/* Energies of own atoms, and their derivatives with respect to edge vectors r_neighbour - r_centre.

   element     of all atoms: positions in `numbers`
   centre      < n_own, ascending;  neighbour < n_all;  vectors n_edges x 3; those beyond the cutoff count nothing
   exchange    NULL where n_all == n_own. Where it is given, the call is collective: on every process, with or without atoms
   counted     NULL, or for each own atom whether its energy counts
   energies    n_own
   gradients   n_edges x 3, or NULL
   readouts    NULL, or an array for each readout (NULL where it isn't wanted) of n_own x components
   deviations  NULL, or n_deviations x n_all x 3: forces of the deviations. Rows of ghosts belong to their owners' rows; then
               the squares of an atom, divided by 3, add up to that of the calibrated uncertainty of a component of its force */
CARTEN_API int carten_evaluate(carten_state *, int64_t n_own, int64_t n_all, const int32_t *element, int64_t n_edges,
                               const int64_t *centre, const int64_t *neighbour, const double *vectors,
                               const carten_exchange *exchange, const int32_t *counted, double *energies,
                               double *gradients, double *const *readouts, double *deviations);

/* From positions to forces. Pairs: both directions, by ascending centre, those within the cutoff and any others.

   cell        3 x 3, rows are lattice vectors; NULL where all shifts are zero
   shifts      n_pairs x 3 lattice vectors: r = position[neighbour] - position[centre] + shift . cell; NULL for none
   forces      n_atoms x 3, or NULL
   virial      3 x 3, -dE/dstrain, or NULL
   virials     n_atoms x 3 x 3, half of each pair's to both atoms, or NULL
   deviations  NULL, or n_deviations x n_atoms x 3, and their virials n_deviations x 3 x 3 */
CARTEN_API int carten_step(carten_state *, int64_t n_atoms, const int32_t *element, const double *positions,
                           const double *cell, int64_t n_pairs, const int64_t *centre, const int64_t *neighbour,
                           const int32_t *shifts, double *energies, double *forces, double *virial, double *virials,
                           double *const *readouts, double *deviations, double *virial_deviations);

#ifdef __cplusplus
}
#endif
#endif
