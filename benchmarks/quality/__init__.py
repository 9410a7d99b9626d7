"""Quality: every federated loss on the same data, with the same budget and the same care.

``python -m benchmarks.quality --data DIR`` (or ``make bench-quality``) runs everything that is
not in the results yet, and writes the results and the page made from them.

Protocol
--------
*Rows.* Seed s decides which rows of a cut class are kept, the partition (where clients are not
natural), the initial parameters, the cohorts and the shuffles; all methods share them, so that
differences between methods are paired (CLIMB and class-balanced sampling draw cohorts of their own,
for want of a hook in the classifier). A quarter of each client's rows, drawn per class, are test
rows (MNIST keeps its own). Small sets have a test split per seed, the others one for all seeds.
Test rows keep their distribution and are never cut: balanced accuracy is the measure. Features are
standardised by the training rows; pixels are divided by 255. Sets of a few hundred rows have twelve
times as many seeds as the others, for a mean over five says little there.

*Budget.* The module, rounds, local epochs, batch size, clients per round and the grid of learning
rates belong to the scenario, not to the method.

*Tuning.* Nothing is chosen by test rows. A quarter of each client's training rows, drawn per
class, is held out, once per test split (where all seeds have the same test rows, with two seeds,
whose scores are averaged); on them each method chooses its learning rate, with its own parameter at
its default. It is then trained on all training rows, once per seed: that is
"at default settings". Then, with that learning rate, it chooses its own parameter among three
values on the same validation rows: that is "tuned". The measure of choice is balanced accuracy; of
equals the smaller learning rate, or the default parameter, wins. FedFocalClassifierCV is given the
learning rate of the default FedFocalClassifier and chooses the rest by itself.

*References.* "Pooled" is the default FedFocalClassifier with all training rows on one client, for
as many passes over the rows as the federation makes. "Own rows only" is its mean over at most ten
clients that train by themselves.

*Left out.* Ratio Loss needs a balanced auxiliary set on the server. CReFF retrains the last layer
on synthetic features in every round, which at this size costs several times the federated training
itself. GBME estimates the prior, for which see ``class_weight="estimated"``; with the same prior it
is the method "CE + federated class weights". AdaFocal and temperature scaling address calibration
alone and need validation rows at prediction time.
"""
