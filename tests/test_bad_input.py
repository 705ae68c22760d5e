"""Everything that can be wrong with a request: one line that names the value, exit status 2, nothing made or changed."""

import contextlib
import io
import re
import shutil

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from results import snapshot
from small_runs import TINY, process

import count
import main
from cli import command, flags, options
from layers.registry import FAMILIES, parse_conv, parse_family
from system.errors import RequestError

T = "digits teacher -t x "
C = "cifar10 teacher -t x "
S = "digits student -t t -s s --wrn_depth 10 --wrn_width 0.25 "
ALLOCATE = S + "--conv SepHashed --budget 1750 --init_from t --allocate "

# a request, and the part of the answer that names the value or what is allowed
REQUESTS = [
    # what and how
    ("", "the following arguments are required: DATASET, MODE"),
    ("digits", "required: MODE"),
    ("~nobody teacher -t x", "unknown dataset '~nobody'"),
    ("cifar11 teacher -t x", "unknown dataset 'cifar11'; did you mean 'cifar10'?"),
    ("CIFAR10 teacher -t x", "unknown dataset 'CIFAR10'; did you mean 'cifar10'?"),
    ("mnist teacher -t x", "unknown dataset 'mnist'; did you mean 'fashionmnist'?"),
    ("digits techer -t x", "unknown mode 'techer'; did you mean 'teacher'?"),
    ("teacher digits -t x", "unknown dataset 'teacher'"),
    (T + "extra", "error: unexpected argument 'extra'\n"),
    (T + "--temp 3", "unknown flag '--temp'; did you mean '--temperature'?"),
    ("digits teacher -t copied --resume", "checkpoints/copied.pt is a checkpoint of the run 't', not of 'copied': put the right"),
    (T + "--wrn_dept 16", "unknown flag '--wrn_dept'; did you mean '--wrn_depth'?"),
    (T + "--wrn-depth 16", "unknown flag '--wrn-depth'; did you mean '--wrn_depth'?"),
    (T + "--epoch 3", "unknown flag '--epoch'; did you mean '--epochs'?"),
    (T + "--frobnicate", "unknown flag '--frobnicate'"),
    (T + "-x", "unknown flag '-x'"),
    (T + "--lr", "argument --lr: expected one argument"),
    (T + "--resume=yes", "argument -r/--resume: ignored explicit argument 'yes'"),
    ("imagenet teacher -t torchvision:mobilenet_v2 --evaluate --network MobileNetV2 --imagenet_loc nowhere", "--imagenet_loc 'nowhere' is not there"),
    ("imagenet teacher -t x --network WRN_50_2", "no imagenet: looked for data/imagenet/train/<wnid>/; image-net.org gives it"),
    # names of runs
    ("digits teacher", "teacher mode needs -t/--teacher_checkpoint"),
    ("digits student -t t", "student mode needs -s/--student_checkpoint"),
    ("digits student -s x", "student mode needs -t/--teacher_checkpoint"),
    ("digits student -t t -s T", "-t and -s are both 'T'"),
    ("digits teacher -t x -s y", "-s 'y' is for student mode"),
    ("digits teacher -t ../x", "-t '../x': a run's name is 1 to 100 letters"),
    ("digits teacher -t a/b", "-t 'a/b'"),
    ("digits teacher -t .", "-t '.'"),
    ("digits teacher -t ..", "-t '..'"),
    ("digits teacher -t ~", "-t '~'"),
    ("digits teacher -t a\\b", r"-t 'a\\b'"),
    ("digits teacher -t x:y", "-t 'x:y'"),
    ("digits teacher -t *", "-t '*'"),
    ("digits teacher -t é", "-t 'é'"),
    ("digits teacher -t ｔ", "-t 'ｔ'"),
    ("digits teacher -t " + "x" * 101, "1 to 100 letters"),
    (["digits", "teacher", "-t", ""], "-t ''"),
    (["digits", "teacher", "-t", "a b"], "-t 'a b'"),
    (["digits", "teacher", "-t", "a\n"], r"-t 'a\n'"),
    (["digits", "teacher", "-t", "a\0"], r"-t 'a\x00'"),
    (["digits", "teacher", "-t", "\udcff"], "1 to 100 letters"),
    ("digits student -t t -s a/../b", "-s 'a/../b'"),
    (["digits", "teacher", "-t", "t", *TINY], "the run 't' is finished: show its result with --resume or choose another name"),
    ("digits teacher -t T", "the name 'T' differs from the existing run 't' in case alone"),
    ("digits teacher -t t --resume", "the run 't' exists with another configuration (wrn_depth was 10, is 40;"),
    # teachers and starts
    ("digits student -t none -s s", "no teacher 'none': checkpoints/none.pt does not exist (there: copied, t)"),
    ("digits student -t tt -s s", "did you mean 't'?"),
    ("cifar10 student -t t -s s --data_dir images", "the teacher 't' was trained on digits (10 classes), not cifar10"),
    (S + "--AT_split 9", "--AT_split 9"),
    (T + "--init_from none", "no run 'none'"),
    (T + "--init_from a/b", "'a/b' cannot be read: No such file"),
    (T + "--init_from t", "--init_from t: wrn_depth is 40 here, 10 there"),
    ("digits student -t t -s s --network DARTS", "the student's attention maps (32×32, 16×16) do not match"),
    ("digits teacher -t x.pth", "-t 'x.pth': in teacher mode it names this run; --init_from starts from such weights"),
    ("digits student -t t -s x.pth.tar", "-s 'x.pth.tar' would be taken for a file"),
    ("digits teacher -t torchvision:mobilenet_v2", "-t 'torchvision:mobilenet_v2': in teacher mode it names this run"),
    ("digits student -t torchvision:mobilenet_v2 -s s", "torchvision:mobilenet_v2 classifies imagenet, not digits"),
    ("digits student -t torchvison:mobilenet_v2 -s s", "did you mean 'torchvision'?"),
    ("digits student -t torchvision: -s s", "-t 'torchvision:' is neither of torchvision:NAME, timm:NAME"),
    ("digits student -t hub:x -s s", "-t 'hub:x' is neither of torchvision:NAME, timm:NAME"),
    ("digits student -t none.pth -s s", "'none.pth' cannot be read: No such file"),
    ("digits student -t empty.py/x.pth -s s", "cannot be read: Not a directory"),
    ("digits student -t images/ -s s", "images/ cannot be read: it is no file"),
    ("digits student -t ./broken.py -s s", "./broken.py is damaged, or nothing that torch.save wrote"),
    ("digits student -t empty.py -s s", "no teacher 'empty.py': checkpoints/empty.py.pt does not exist; the file here is ./empty.py"),
    ("digits student -t t -s s --init_from ./empty.py", "./empty.py is damaged, or nothing that torch.save wrote"),
    (T + "--init_from checkpoints/t.pt", "--init_from checkpoints/t.pt: wrn_depth is 40 here, 10 there"),
    ("cifar10 student -t ./checkpoints/t.pt -s s --data_dir images", "the teacher './checkpoints/t.pt' was trained on digits (10 classes)"),
    # networks
    (T + "--network WRN", "unknown network 'WRN'"),
    (T + "--network wideresnet", "did you mean 'WideResNet'?"),
    (T + "--wrn_depth 27", "--wrn_depth 27: a WideResNet's depth is 6n + 4, such as 22 or 28"),
    (T + "--wrn_depth 4", "--wrn_depth 4"),
    (T + "--wrn_depth 1e1", "'1e1' is not a whole number"),
    (T + "--wrn_depth 99999", "'99999' is not a whole number of at least 1 and at most 10000"),
    (T + "--wrn_width 0", "'0' is not a number above 0"),
    (T + "--wrn_width 0.01", "--wrn_width 0.01"),
    (T + "--wrn_width 1e12", "'1e12' is not a number above 0 and at most 1000"),
    (T + "--wrn_width -2", "'-2' is not a number"),
    (T + "--AT_split 0", "'0' is not a whole number of at least 1"),
    (T + "--AT_split 7", "--AT_split 7"),
    (T + "--width_mult 1", "--width_mult is not a flag of --network WideResNet, but of MobileNetV2, CifarResNet50, MobileNetV1"),
    (C + "--network DARTS --wrn_width 2", "--wrn_width is not a flag of --network DARTS"),
    (C + "--drop_path_prob 0.2", "--drop_path_prob is not a flag of --network WideResNet, but of DARTS"),
    (C + "--network DARTS --drop_path_prob 1", "'1' is not a number of at least 0 and at most 0.99"),
    (C + "--network MobileNetV2", "--network MobileNetV2 takes imagenet, not cifar10"),
    (C + "--network MobileNetV1 --image_size 64", "--image_size 64: cifar10 has images of 32×32; it goes with imagenet and folder:PATH"),
    (C + "--network ResNet8", "unknown network 'ResNet8'; did you mean 'ResNet9'?"),
    (C + "--network ResNet9 --width_mult 2", "--width_mult is not a flag of --network ResNet9, but of MobileNetV2, CifarResNet50"),
    (T + "--network CifarResNet50 --width_mult 0.01", "--width_mult 0.01: at least 1/64 and at most 100 is allowed here"),
    ("imagenet teacher -t x", "--network WideResNet takes cifar10"),
    # convolutions
    (T + "--conv SepHahsed_0.1", "unknown conv 'SepHahsed_0.1'; did you mean SepHashed_s (0 < s <= 1)?"),
    (T + "--conv shuffle_4", "did you mean Shuffle_g (g >= 1, whole)?"),
    (T + "--conv acdc", "did you mean ACDC[_L]"),
    (T + "--conv Conv_1", "conv 'Conv_1' is not of the form Conv"),
    (T + "--conv SepHashed", "conv 'SepHashed' is not of the form SepHashed_s (0 < s <= 1)"),
    (T + "--conv SepHashed_", "conv 'SepHashed_' is not"),
    (T + "--conv SepHashed_0", "conv 'SepHashed_0' is not"),
    (T + "--conv SepHashed_1.5", "conv 'SepHashed_1.5' is not"),
    (T + "--conv SepHashed_nan", "conv 'SepHashed_nan' is not"),
    (T + "--conv SepHashed_1e-400", "conv 'SepHashed_1e-400' is not"),
    (T + "--conv SepHashed_٠.١", "conv 'SepHashed_٠.١' is not"),
    (T + "--conv SepHashed_0.1_2", "conv 'SepHashed_0.1_2' is not"),
    (T + "--conv ACDC_1", "conv 'ACDC_1' is not of the form ACDC[_L] (L >= 2, whole"),
    (T + "--conv ACDC_2.0", "conv 'ACDC_2.0' is not"),
    (T + "--conv Shuffle_0", "conv 'Shuffle_0' is not"),
    (T + "--conv Shuffle_-1", "conv 'Shuffle_-1' is not"),
    (T + "--conv TensorTrain_4_0.8", "conv 'TensorTrain_4_0.8' is not"),
    (T + "--conv TensorTrain_0.8_10", "(0 < s <= 1, 2 <= d <= 9; 3 if left out)"),
    (T + "--conv TensorTrain_x_4", "conv 'TensorTrain_x_4' is not"),
    (T + "--conv HashedDecimate_0.1", "conv 'HashedDecimate_0.1' is not of the form HashedDecimate"),
    (T + "--conv " + "S" * 5000, "unknown conv"),
    ([*T.split(), "--conv", ""], "unknown conv ''"),
    ([*T.split(), "--conv", "Sep\nHashed_0.1"], r"unknown conv 'Sep\nHashed_0.1'"),
    (T + "--conv Shuffle_2 --wrn_width 0.1", "layer 'groups.0.0.conv1' (16 -> 1) cannot be Shuffle_2"),
    (T + "--conv SepHashedFull_0.01", "layer 'groups.0.0.conv1'"),
    (T + "--conv Hashed_0.0001 --wrn_width 0.25", "layer 'groups.0.0.conv1'"),
    (T + "--conv groups.0=Conv,Sep", "conv 'Sep' of 'groups.0=Conv,Sep' is not of the form PATTERN=NAME"),
    (T + "--conv groups.0=SepHashed", "conv 'SepHashed' is not of the form SepHashed_s (0 < s <= 1)"),
    (T + "--conv group[0=Conv", "'group[0' is not a regular expression"),
    (T + "--conv gruops.0=Sep", "--conv 'gruops.0' matches none of the layers that can be swapped; did you mean 'groups.0'?"),
    (T + "--conv groups=Sep,groups.0=Conv", "--conv 'groups.0' decides no layer"),
    (T + "--where nothing", "--where 'nothing' matches none"),
    (T + "--where [", "'[' is not a regular expression"),
    (T + "--where (?P<", "'(?P<' is not a regular expression"),
    (T + "--where [[a]", "'[[a]' is not a regular expression"),
    (T + "--where " + "(" * 5000, "is not a regular expression"),
    (T + "--where a{99999999999}", "is not a regular expression"),
    (T + "--conv Sep --module f.py", "--conv Sep and --module f.py: give one of them"),
    # modules
    (T + "--module none.py", "--module none.py cannot be read: No such file"),
    (T + "--module images", "--module images cannot be read: it is no file"),
    (T + "--module " + "m" * 5000, "cannot be read: File name too long"),
    (T + "--module broken.py", "--module broken.py, line 1: SyntaxError"),
    (T + "--module binary.py", "--module binary.py"),
    (T + "--module empty.py", "--module empty.py defines no torch module named Conv"),
    (T + "--module imports.py", "ModuleNotFoundError"),
    (T + "--module exits.py", "SystemExit: 7"),
    (T + "--module number.py", "defines no torch module named Conv"),
    (T + "--module arguments.py", "layer 'groups.0.0.conv1'"),
    (T + "--module divides.py --wrn_depth 10", "ZeroDivisionError"),
    (T + "--module empty.py/x.py", "cannot be read: Not a directory"),
    (T + "--module=", "argument --module: '' is not the name of a file"),
    (T + "--module narrower.py", "RuntimeError: The size of tensor a"),
    (T + "--module narrows_itself.py", "RuntimeError: The size of tensor a"),
    # budgets
    (T + "--conv SepHashed --budget 10", "is out of reach for SepHashed"),
    (T + "--conv groups.0=ACDC,.*=SepHashed --budget 4e4", "a budget finds one number, but L (L >= 2, whole) and s"),
    (T + "--conv groups.0=ACDC_3,.*=Conv --budget 4e4", "a budget finds the numbers that are left out, so leave one out"),
    (T + "--conv SepHashed --budget 4e4 --allocate", "--allocate shares a --budget by what --init_from knows: give --init_from too"),
    (T + "--conv SepHashed --init_from t --budget_mult_adds 4e6 --allocate", "--budget_mult_adds does not go with --allocate, which shares parameters: give --budget instead"),
    (T + "--conv SepHashed --init_from t --budget 4e4 --budget_mult_adds 4e6 --allocate", "give --budget instead"),
    (T + "--conv SepHashed --init_from t --allocate", "--init_from knows: give --budget too"),
    (ALLOCATE.replace("-t t", "-t nosuch"), "no teacher 'nosuch'"),
    (T.replace("-t x", "-t T") + ALLOCATE.partition("-s s")[2], "the name 'T' differs from the existing run 't' in case alone"),
    (T.replace("-t x", "-t t") + ALLOCATE.partition("-s s")[2], "the run 't' exists with another configuration (conv was Conv, is SepHashed allocated at 1750"),
    (T + "--conv Sep --init_from t --budget 4e4 --allocate", "--conv Sep has no number that --allocate could find"),
    (T + "--conv SepHashed --init_from t --budget 4e4 --allocate", "--init_from t: wrn_depth is 40 here, 10 there"),
    (T + "--conv SepHashed --init_from t --budget 10 --allocate --wrn_depth 10 --wrn_width 0.25", "is out of reach for SepHashed, a number a layer"),
    (T + "--conv SepHashed --budget 0", "'0' is not a number of at least 1"),
    (T + "--conv SepHashed --budget 1.5", "'1.5' is not a whole number"),
    (T + "--conv SepHashed --budget many", "'many' is not a number"),
    (T + "--conv SepHashed_0.1 --budget 5e5", "conv 'SepHashed_0.1': a budget finds the number, so give SepHashed"),
    (T + "--conv SepHashed --budget 5e5 --budget_mult_adds 1e8", "give one of them"),
    (T + "--module empty.py --budget 5e5", "--module has none"),
    (C + "--network DARTS --conv Sep --budget 5e5", "no width that could vary"),
    # optimisation
    (T + "--lr 0", "'0' is not a number above 0"),
    (T + "--lr nan", "'nan' is not a number"),
    (T + "--lr inf", "'inf' is not a number"),
    (T + "--lr 0,1", "'0,1' is not a number"),
    (T + "--lr 0x1", "'0x1' is not a number"),
    (T + "--lr 1e999", "'1e999' is not a number"),
    (T + "--momentum 2", "'2' is not a number of at least 0 and at most 1"),
    (T + "--momentum -0.1", "'-0.1' is not a number"),
    (T + "--optimizer adamm", "unknown optimizer 'adamm'; did you mean 'adam'?"),
    (T + "--optimizer adam --nesterov", "--nesterov goes with --optimizer sgd, not adam"),
    (T + "--optimizer adamw --momentum 1", "--momentum 1: the β₁ of adamw is below 1"),
    (T + "--momentum 0 --nesterov", "--nesterov needs a --momentum above 0"),
    (T + "--nesterov=yes", "argument --nesterov/--no_nesterov: ignored explicit argument 'yes'"),
    (T + "--structured_lr 0", "'0' is not a number above 0 and at most 1e+06, nor auto or shared"),
    (T + "--structured_lr Auto", "'Auto' is not a number above 0 and at most 1e+06, nor auto or shared"),
    (T + "--reestimate_bn -1", "'-1' is not a whole number of at least 0"),
    ("folder:images/cifar10 teacher -t x --network SqueezeNet --reestimate_bn 3 --image_size 64", "--reestimate_bn 3: SqueezeNet has no batch-norm"),
    ("digits teacher -t t --evaluate --reestimate_bn 3", "--evaluate only tests a trained network, --reestimate_bn does not go with it"),
    ("digits teacher -t t --evaluate --prune TopK_0.1", "--evaluate only tests a trained network, --prune does not go with it"),
    ("digits teacher -t t --evaluate --kl_weight 2", "--evaluate only tests a trained network, --kl_weight does not go with it"),
    (T + "--module noisy.py", "--module noisy.py has variational layers: give --kl_weight (1 as for SparseVD and GroupVD"),
    (T + "--prune TopX_0.1", "unknown way to prune 'TopX_0.1'; did you mean TopK_s (0 < s <= 1)?"),
    (T + "--prune Gradual", "argument --prune: 'Gradual' is not of the form Gradual_s (0 < s <= 1)"),
    (T + "--prune Magnitude_-1", "is not of the form Magnitude_t (t >= 0)"),
    (T + "--prune_at 3", "--prune_at 3 goes with --prune"),
    (T + "--prune TopK_0.1 --prune_until 9", "--prune_until 9 goes with --prune Gradual_s, not TopK_0.1"),
    (T + "--prune TopK_0.1 --prune_at 31", "--prune_at 31: at least 0 and at most the 30 epochs are allowed"),
    (T + "--prune Gradual_0.1 --prune_at 9 --prune_until 8", "--prune_until 8: at least 9"),
    (T + "--wrn_depth 10 --l1 1e-4 --prune_where layre", "--prune_where 'layre' matches none of the layers with weights"),
    (T + "--kl_weight 2", "--kl_weight 2 goes with a variational --conv (SparseVD and GroupVD), not Conv"),
    (T + "--conv Sep --kl_warmup 0.5", "--kl_warmup 0.5 goes with a variational --conv (SparseVD and GroupVD), not Sep"),
    (T + "--conv GroupVD --kl_warmup 31", "--kl_warmup 31: at most the 30 epochs are allowed"),
    (T + "--conv GroupVD --kl_weight -1", "'-1' is not a number of at least 0"),
    (T + "--conv SparsVD", "unknown conv 'SparsVD'; did you mean SparseVD?"),
    (T + "--conv SparseVD_0.1", "conv 'SparseVD_0.1' is not of the form SparseVD"),
    (T + "--conv GroupVD --prune TopK_0.1", "--prune TopK_0.1 does not go with GroupVD, whose training decides which weights are 0"),
    (T + "--conv groups.0=SparseVD,.*=Conv --l1 1e-4", "--l1 0.0001 does not go with groups.0=SparseVD,.*=Conv, whose training"),
    (T + "--conv SparseVD --budget 1e5", "conv 'SparseVD': training decides what is left of SparseVD, so no budget can"),
    (T + "--conv groups.0=GroupVD,.*=Generic --budget 1e5", "conv 'GroupVD': training decides what is left of GroupVD"),
    (T + "--until 0", "'0' is not a whole number of at least 1"),
    (T + "--until 31", "--until 31: at most the 30 epochs of the run are allowed"),
    ("digits teacher -t t --evaluate --until 3", "--evaluate only tests a trained network, --until does not go with it"),
    (T + "--restart_mult 3", "--restart_mult goes with --schedule sgdr, not cosine"),
    (T + "--schedule sgdr --restart_epochs 0", "'0' is not a whole number of at least 1"),
    (T + "--schedule sgdr --restart_mult 1.5", "'1.5' is not a whole number"),
    (T + "--schedule linear", "--schedule linear on WideResNet needs --lr_points"),
    (T + "--lr_points [[0,0.1]]", "--lr_points goes with --schedule linear, not cosine"),
    (T + "--schedule linear --lr_points [[0,0.1]] --lr 0.2", "--lr 0.2 does not go with --lr_points, which say every rate"),
    (T + "--schedule linear --lr_points [[1,0.1]]", "is not a JSON list of rising epochs, the first 0, each with a rate"),
    (T + "--schedule linear --lr_points [[0,0.1],[3,0.2],[3,0]]", "is not a JSON list of rising epochs"),
    (T + "--schedule linear --lr_points [[0,0.1],[3,-0.2]]", "is not a JSON list of rising epochs"),
    (T + "--schedule linear --lr_points [[0,0.1],[3,NaN]]", "is not a JSON list of rising epochs"),
    (T + "--schedule linear --lr_points [[0,0.1],[3,true]]", "is not a JSON list of rising epochs"),
    (T + "--schedule linear --lr_points [[0,0.1,1]]", "is not a JSON list of rising epochs"),
    (T + "--schedule linear --lr_points [[0,0]]", "is not a JSON list of rising epochs, the first 0, each with a rate, one above 0"),
    (T + "--schedule linear --lr_points []", "is not a JSON list of rising epochs"),
    (T + "--schedule linear --lr_points 7", "is not a JSON list of rising epochs"),
    (T + "--schedule linear --lr_points [[0,0.1],[9,0]]", "--lr_points end at epoch 9 with the rate 0, but the run has 30 epochs: end them there"),
    (T + "--pad mirror", "unknown padding 'mirror' (known: zero, reflect)"),
    (T + "--augment none --pad reflect", "--pad reflect does not go with --augment none"),
    (T + "--augment crop --cutout_inside", "--cutout_inside goes with a --cutout above 0"),
    (T + "--cutout_inside --cutout 33", "--cutout 33 does not lie inside images of 32×32"),
    ("imagenet teacher -t x --network MobileNetV1 --pad zero", "--pad zero does not go with imagenet, whose crops need no padding"),
    (T + "--weight_decay -1", "'-1' is not a number of at least 0"),
    (T + "--crs_factor -1", "'-1' is not a number of at least 0"),
    (T + "--nocrswd --crs_factor 2", "--crs_factor 2 contradicts --nocrswd"),
    (T + "--fit_effort 0 --init_from t", "'0' is not a number above 0 and at most 1000"),
    (T + "--fit_effort 2", "--fit_effort 2 goes with --init_from: nothing else is fitted"),
    (T + "--clip_grad 0", "'0' is not a number above 0"),
    (T + "--epochs 0", "'0' is not a whole number of at least 1"),
    (T + "--epochs 2.5", "'2.5' is not a whole number"),
    (T + "--epochs 1_0", "'1_0' is not a whole number"),
    (T + "--epochs ١٠x", "'١٠x' is not a whole number"),
    (T + "--epochs " + "9" * 400, "is not a whole number"),
    (T + "--batch_size 0", "'0' is not a whole number of at least 1"),
    (T + "--batch_size -1", "'-1' is not a whole number of at least 1"),
    (T + "--batch_size 99999999999999999999", "at most 1e+06"),
    (T + "--seed -1", "'-1' is not a whole number"),
    (T + "--seed 1e3", "'1e3' is not a whole number"),
    (T + "--schedule steps", "unknown schedule 'steps'; did you mean 'step'?"),
    (T + "--schedule step --epoch_step 60,120", "'60,120' is not a JSON list of rising epochs, such as '[60,120,160]'"),
    (T + "--schedule step --epoch_step [120,60]", "'[120,60]' is not a JSON list of rising epochs"),
    (T + "--schedule step --epoch_step [60,60]", "'[60,60]' is not"),
    (T + "--schedule step --epoch_step [true]", "'[true]' is not"),
    (T + "--schedule step --epoch_step [1.5]", "'[1.5]' is not"),
    (T + "--schedule step --epoch_step [0]", "'[0]' is not"),
    (T + '--schedule step --epoch_step {"a":1}', "is not a JSON list"),
    (T + '--schedule step --epoch_step ["60"]', "is not a JSON list"),
    (T + "--schedule step --epoch_step [60", "'[60' is not"),
    (T + "--schedule step --epoch_step " + "[" * 100_000, "is not a JSON list"),
    (T + "--schedule step --epoch_step [" + "9" * 5000 + "]", "is not a JSON list"),
    ([*T.split(), "--schedule", "step", "--epoch_step", ""], "'' is not a JSON list"),
    (T + "--epoch_step [3]", "--epoch_step goes with --schedule step, not cosine"),
    (T + "--lr_decay_ratio 0.5", "--lr_decay_ratio goes with --schedule step, not cosine"),
    (T + "--schedule step --lr_decay_ratio 0", "'0' is not a number above 0"),
    (T + "--schedule step --lr_decay_ratio 1.1", "'1.1' is not a number above 0 and at most 1"),
    (C + "--network DARTS --schedule step", "--schedule step on DARTS needs --epoch_step and --lr_decay_ratio"),
    # distillation
    (S + "--alpha 1.1", "'1.1' is not a number of at least 0 and at most 1"),
    (S + "--alpha -0.1", "'-0.1' is not a number"),
    (S + "--beta -1", "'-1' is not a number of at least 0"),
    (S + "--beta inf", "'inf' is not a number"),
    (S + "--temperature 0", "'0' is not a number above 0"),
    (T + "--beta 100", "--beta 100.0 says how a teacher teaches, so it goes with student mode"),
    (T + "--cache_teacher --augment none", "--cache_teacher says how a teacher teaches, so it goes with student mode"),
    (S + "--cache_teacher", "--cache_teacher goes with --augment none: with --augment full the teacher sees other pixels"),
    (S + "--cache_teacher --augment none --beta 0", "with --alpha 0 --beta 0 the student learns nothing from the teacher"),
    (S + "--cache_teacher --augment none --GPU 0,1", "--cache_teacher goes with one process"),
    # data
    (C, "no cifar10: looked for data/cifar-10-batches-py"),
    (C + "--data_dir /nowhere", "looked for /nowhere/cifar-10-batches-py"),
    (C + "--data_dir empty.py", "no cifar10: looked for empty.py/cifar-10-batches-py"),
    (C + "--data_dir " + "d" * 5000, "cannot be looked into: File name too long"),
    ("cifar100 teacher -t x", "no cifar100: looked for data/cifar-100-python"),
    (T + "--val_size 1500", "--val_size 1500: digits has 1,500 images to train on, at most 1499"),
    (T + "--val_size -1", "'-1' is not a whole number"),
    (C + "--data_dir images --val_size 20", "--val_size 20: there are 20 training images, some must remain"),
    (T + "--augment half", "unknown augmentation 'half'"),
    (T + "--augment crop --cutout 8", "--cutout 8 goes with --augment full, not crop"),
    (T + "--cutout 65", "'65' is not a whole number of at least 0 and at most 64"),
    (T + "--workers 0", "'0' is not a whole number of at least 1"),
    (T + "--print_freq 0", "'0' is not a whole number of at least 1"),
    (T + "--checkpoint_every 0", "'0' is not a whole number of at least 1"),
    (T + "--checkpoint_every often", "'often' is not a whole number"),
    # devices
    (T + "--GPU 999", "--GPU 999: there is no such GPU"),
    (T + "--GPU -1", "'-1' is not a GPU's number, or different ones such as '0,1,2'"),
    (T + "--GPU 0,0", "'0,0' is not a GPU's number"),
    (T + "--GPU 0,,1", "'0,,1' is not a GPU's number"),
    (T + "--GPU 0,1", "--GPU 1: there is no such GPU"),
    (T + "--GPU all", "'all' is not a GPU's number"),
    (T + "--GPU 0;1", "'0;1' is not a GPU's number"),
    (T + "--device cpu --GPU 0", "--GPU 0 contradicts --device cpu"),
    (T + "--device tpu", "unknown device 'tpu'"),
    (T + "--device cuda:0", "unknown device 'cuda:0'; did you mean 'cuda'?"),
    (T + "--precision fp16", "unknown precision 'fp16'; did you mean 'bf16'?"),
    (T + "--checkpoint_activations --compile", "--checkpoint_activations does not go with --compile"),
]  # fmt: skip

COUNTS = [
    ("", "required: DATASET"),
    ("cifar10 --compare Conv,Sepp", "unknown conv 'Sepp'; did you mean Sep?"),
    ("cifar10 --compare Conv, --table", "--table does not go with --compare"),
    ("cifar10 --compare ,", "unknown conv ''"),
    ("cifar10 --conv Conv --batch 0", "'0' is not a whole number of at least 1"),
    ("cifar10 --lr 3", "unknown flag '--lr'"),
    ("imagenet --network DARTS", "--network DARTS takes cifar10"),
    ("imagenet --network MobileNetV2 --width_mult 0", "'0' is not a number above 0"),
    (
        "imagenet --network MobileNetV1 --width_mult 0.03",
        "--width_mult 0.03: at least 1/32 and at most 100 is allowed here",
    ),
    (
        "imagenet --network ResNet9",
        "--network ResNet9 takes cifar10, cifar100, cifar100coarse, fashionmnist, digits, not imagenet",
    ),
    (
        "cifar10 --network CifarResNet18 --budget 1e6",
        "--conv Conv has no number to find, and --network CifarResNet18 no width that could vary",
    ),
    ("cifar10 --conv ACDC --budget 1", "is out of reach for ACDC"),
    ("cifar10 --compare SepHashed_0.1 --budget 5e5", "conv 'SepHashed_0.1': a budget finds the number"),
]

CONV = "import torch\nclass Conv(torch.nn.Module):\n  def __init__(self, *a, **k): super().__init__()\n"
FILES = {
    "broken.py": b"def f(:", "binary.py": b"\xff\xfe\x00", "empty.py": b"", "imports.py": b"import nonexistent_package_xyz",
    "exits.py": b"import sys\nsys.exit(7)", "number.py": b"Conv = 3",
    "arguments.py": b"import torch\nclass Conv(torch.nn.Module):\n  def __init__(self): pass",
    "noisy.py": b"from layers.sparse_vd import SparseVD\nfrom layers.spec import ConvSpec\n"
    b"class Conv(SparseVD):\n  def __init__(self, **given): super().__init__(ConvSpec(**given))",
    "narrower.py": (CONV + "  def forward(self, x): return x[:, :, :-1]").encode(),
    "narrows_itself.py": (
        b"import torch\nclass Conv(torch.nn.Conv2d):\n  def forward(self, x): return super().forward(x)[:, :, :-1]"
    ),
    "divides.py": (CONV + "  def forward(self, x): return 1 / 0").encode(),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(teacher, tmp_path_factory):
    """A folder with a trained teacher `t`, a cifar10 of 20 images and files that are no good modules."""
    from samples import tree, write_folder

    place = tmp_path_factory.mktemp("place")
    shutil.copytree(teacher, place, dirs_exist_ok=True)
    shutil.copy(place / "checkpoints/t.pt", place / "checkpoints/copied.pt")
    write_folder(place / "images/cifar10", tree())
    for name, contents in FILES.items():
        (place / name).write_bytes(contents)
    return place


def refused(program, text, capsys) -> str:
    arguments = text.split() if isinstance(text, str) else text
    status = command.run(lambda: program.main(arguments))
    out, err = capsys.readouterr()
    assert (status, out) == (2, "") and len(err.splitlines()) == 1 and err.startswith("error: "), err
    return err


@pytest.mark.parametrize(
    "program, text, told",
    [(main, *each) for each in REQUESTS] + [(count, *each) for each in COUNTS],
    ids=lambda value: re.sub(r"[^\w.,=-]+", " ", str(value))[:40] if isinstance(value, (str, list)) else "",
)
def test_refused(program, text, told, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.delenv("DATA_DIR", raising=False)
    before = snapshot(place)
    assert told in refused(program, text, capsys)
    assert snapshot(place) == before


def test_there_are_enough():
    assert len(REQUESTS) + len(COUNTS) >= 150


def test_refused_as_processes(workplace):
    """Three of those that need no files, each in a process of its own; and the GPU that is not there."""
    chosen = [text for text, _ in REQUESTS if isinstance(text, str) and text.startswith(T) and len(text) < 100]
    chosen = chosen[:: len(chosen) // 3][:3]
    chosen += [] if torch.cuda.is_available() else [T + "--GPU 3"]
    children = [process(*text.split(), cwd=workplace) for text in chosen]
    for text, child in zip(chosen, children):
        out, err = child.communicate(timeout=120)
        assert (child.returncode, out) == (2, "") and len(err.splitlines()) == 1 and err.startswith("error: "), text
        assert "--GPU 3" not in text or err == (
            "error: --GPU 3: there is no such GPU, torch sees none here, leave --GPU out to use the CPU\n"
        )
    assert list(workplace.iterdir()) == [] and len(chosen) >= 3


FLAGS = sorted(
    {flag for action in flags.training_parser()._actions for flag in action.option_strings} - {"--help", "-h"}
)
TEXT = st.text(st.characters(exclude_categories=[]), max_size=20)
VALUES = st.one_of(
    TEXT, st.integers().map(str), st.floats().map(str), st.lists(st.integers(-3, 300)).map(str),
    st.sampled_from(["Conv", "cosine", "step", "DARTS", "WideResNet", "full", "crop", "x", "0", "1", "1e5", "-1", ""]),
)  # fmt: skip
NUMBERS = st.one_of(st.floats(0, 1).map(str), st.integers(0, 50).map(str), TEXT)
CONVS = st.tuples(st.sampled_from([*FAMILIES, "conv", ""]), st.lists(NUMBERS, max_size=3)).map(
    lambda parts: "_".join([parts[0], *parts[1]])
)
FUZZ = settings(
    max_examples=700, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@FUZZ
@given(st.lists(st.tuples(st.sampled_from(FLAGS) | TEXT, VALUES | CONVS), max_size=4), st.booleans())
def test_fuzzed_flags(pairs, separate):
    """Whatever the flags: options, or one line."""
    arguments = [part for flag, value in pairs for part in ((flag, value) if separate else (f"{flag}={value}",))]
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            resolved = options.training(["digits", "teacher", "-t", "x", *arguments])
        except RequestError as error:
            assert str(error)
        except SystemExit as end:  # --help
            assert end.code == 0
        else:
            assert resolved.epochs >= 1 and resolved.batch_size >= 1 and (resolved.conv or resolved.module)


@FUZZ
@given(CONVS | TEXT)
def test_fuzzed_conv_names(text):
    """A name is refused in one line, or stands for one conv that its canonical form stands for too."""
    for parse in (parse_conv, parse_family):
        try:
            name = parse(text)
        except RequestError as error:
            assert repr(text) in str(error) and len(str(error).splitlines()) == 1
        else:
            assert parse(str(name)) == name
