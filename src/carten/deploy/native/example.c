/* Energy and forces of a water molecule: cc example.c ./model.so -o example && ./example */
#include <stdio.h>
#include "carten_model.h"

static int position(int number) { /* of an atomic number among the elements of the model */
  const carten_info *model = carten_describe();
  for (int k = 0; k < model->n_elements; k++)
    if (model->numbers[k] == number) return k;
  return -1;
}

int main(void) {
  const double r[3][3] = {{0, 0, 0.12}, {0, 0.76, -0.48}, {0, -0.76, -0.48}}; /* Angstrom */
  const int32_t element[3] = {position(8), position(1), position(1)};
  const int64_t centre[6] = {0, 0, 1, 1, 2, 2}, neighbour[6] = {1, 2, 0, 2, 0, 1};
  double energies[3], forces[3][3];

  carten_state *state = carten_create();
  if (!state || carten_step(state, 3, element, &r[0][0], NULL, 6, centre, neighbour, NULL, energies, &forces[0][0],
                            NULL, NULL, NULL, NULL, NULL)) {
    fprintf(stderr, "%s\n", carten_error(state));
    return 1;
  }
  printf("energy %.10f eV\n", energies[0] + energies[1] + energies[2]);
  for (int i = 0; i < 3; i++) printf("force %.8f %.8f %.8f eV/A\n", forces[i][0], forces[i][1], forces[i][2]);
  carten_destroy(state);
  return 0;
}
